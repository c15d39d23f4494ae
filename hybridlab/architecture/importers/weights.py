"""Where each weight of an imported model comes from, filling a model with them, and the way back."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hybridlab.architecture.importers.pickles import refused
from hybridlab.architecture.model import GraphModel, GroupModule, Slot
from hybridlab.errors import Problem, SpecError

Make = Callable[[list[Tensor]], Tensor]
Back = Callable[[Tensor], list[Tensor]]
Read = Callable[[str], Tensor]
_MOST_NAMES = 8
_ROUNDING = 1e-12
"""What a factor may be off one because it was computed."""


@dataclass(frozen=True)
class Way:
    """Names of published tensors, what to make of them, and how to make them again.

    Where one of ours holds but a part of a published tensor, ``back`` gives that tensor whole, with NaN for the rest.
    """

    names: tuple[str, ...]
    make: Make
    back: Back | None = None


@dataclass(frozen=True)
class Take:
    """Where one of our weights comes from: the first way whose names are all there."""

    ways: tuple[Way, ...]

    def then(
        self,
        change: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor] | None = None,
    ) -> Take:
        """Return the same weight changed, such as transposed; ``back`` undoes it."""
        return Take(
            tuple(
                Way(way.names, _after(way.make, change), _before(way.back, back))
                for way in self.ways
            )
        )

    def scaled(self, factor: float) -> Take:
        """Return the same weight with a multiplier folded in."""
        if math.isclose(factor, 1, rel_tol=_ROUNDING):
            return self
        return self.then(lambda tensor: tensor * factor, lambda tensor: tensor / factor)


Weights = Mapping[str, Mapping[str, Take]]
"""By the path of a node (or of a group with a norm), the weights in its place by name."""


def take(name: str) -> Take:
    """Return a published tensor as it stands."""
    return Take((Way((name,), lambda tensors: tensors[0], lambda tensor: [tensor]),))


def joined(*names: str, rows: Sequence[int] | None = None) -> Take:
    """Return published tensors one below the other, such as queries, keys and values.

    ``rows`` are those of each, as far as they are not all alike.
    """

    def apart(whole: Tensor) -> list[Tensor]:
        return list(torch.split(whole, list(rows) if rows else whole.shape[0] // len(names)))

    return Take((Way(names, torch.cat, apart),))


def built(names: Sequence[str], make: Make, back: Back | None = None) -> Take:
    """Return what a function makes of published tensors; ``back`` makes them of it again."""
    return Take((Way(tuple(names), make, back),))


def first_of(*takes: Take) -> Take:
    """Return the first of several ways whose tensors are there."""
    return Take(tuple(way for one in takes for way in one.ways))


def load_weights(
    model: GraphModel,
    weights: Weights,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Tensor],
    *,
    unused: Sequence[str] = (),
) -> None:
    """Fill a model with published weights.

    Args:
        model: built from the architecture that was imported together with ``weights``.
        weights: where each weight comes from.
        source: safetensors files, a folder of them, or tensors by name.
        unused: patterns of published names that stand for nothing here, such as ``*.rotary_emb.inv_freq``.

    Raises:
        SpecError: weights are missing, left over, of another shape, or the files cannot be read; all of them at once,
            and the model is as it was.
    """
    with contextlib.ExitStack() as opened:
        names, read = _opened(source, opened)
        found: list[tuple[Tensor, Way]] = []
        missing: list[str] = []
        left = {name for name in names if not any(fnmatch.fnmatch(name, p) for p in unused)}
        for path, name, parameter in wanted_weights(model):
            wanted = weights.get(path, {}).get(name)
            ways = wanted.ways if wanted is not None else ()
            way = next((way for way in ways if names.issuperset(way.names)), None)
            if way is None:
                missing += (
                    [n for n in ways[0].names if n not in names] if ways else [f"{path}.{name}"]
                )
            else:
                left -= set(way.names)
                found.append((parameter, way))
        problems = [*_listed("missing", missing), *_listed("left over", sorted(left))]
        if problems:
            raise SpecError(problems)
        made = [
            (parameter, way, way.make([read(n) for n in way.names])) for parameter, way in found
        ]
        wrong = [
            f"{' + '.join(way.names)}: {tuple(tensor.shape)} instead of {tuple(parameter.shape)}"
            for parameter, way, tensor in made
            if tensor.shape != parameter.shape
        ]
        if wrong:
            raise SpecError(list(_listed("of another shape", wrong)))
        with torch.no_grad():
            for parameter, _, tensor in made:
                parameter.copy_(tensor)


def published(
    model: GraphModel, weights: Weights, places: Mapping[tuple[str, str], tuple[str, str]]
) -> dict[str, Tensor]:
    """Return a model's weights under their published names, the newest of several spellings.

    Args:
        model: whose weights they are.
        weights: where each weight of the published description comes from, by its path there.
        places: by the path and name of a weight in the model, its path and name in that description.

    Raises:
        SpecError: a weight has no published place, or a published tensor is not filled; all of them at once.
    """
    found: dict[str, Tensor] = {}
    homeless: list[str] = []
    for path, name, tensor in wanted_weights(model):
        there, called = places.get((path, name), ("", ""))
        taken = weights.get(there, {}).get(called)
        way = next((w for w in taken.ways if w.back is not None), None) if taken else None
        if way is None or way.back is None:
            homeless.append(f"{path}.{name}")
            continue
        for published_name, part in zip(way.names, way.back(tensor.detach()), strict=True):
            before = found.get(published_name)
            found[published_name] = (
                part if before is None else torch.where(before.isnan(), part, before)
            )
    problems = [
        *_listed("without a place in the family's files", homeless),
        *_listed("not a number", [name for name, part in found.items() if part.isnan().any()]),
    ]
    if problems:
        raise SpecError(problems)
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def wanted_weights(model: GraphModel) -> Iterator[tuple[str, str, Tensor]]:
    """Yield every weight and buffer that a model keeps: its node's path, its name there, and itself."""
    borrowed = {(share.borrower, share.weight) for share in model.inference.shares}
    for module in model.modules():
        if isinstance(module, Slot):
            for name, tensor in module.state_dict(keep_vars=True).items():
                if (module.path, name) not in borrowed:
                    yield module.path, name, tensor
        elif isinstance(module, GroupModule) and module.norm is not None:
            for name, parameter in module.norm.named_parameters(prefix="norm"):
                if (module.path, name) not in borrowed:
                    yield module.path, name, parameter


def _opened(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Tensor],
    opened: contextlib.ExitStack,
) -> tuple[set[str], Read]:
    """Return the names of all tensors and a function that reads one."""
    if isinstance(source, Mapping):
        return set(source), source.__getitem__
    files = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths = [
        path
        for given in map(Path, files)
        for path in (sorted(given.glob("*.safetensors")) if given.is_dir() else [given])
    ]
    if problem := next(filter(None, map(refused, [*map(Path, files), *paths])), None):
        raise SpecError(problem)
    if not paths:
        raise SpecError(
            Problem(", ".join(map(str, files)), "holds no weights", "safetensors files")
        )
    homes: dict[str, Any] = {}
    for path in paths:
        try:
            file = opened.enter_context(safe_open(path, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise SpecError(
                Problem(
                    str(path),
                    f"cannot be read as weights: {error}",
                    "a whole safetensors file",
                    fix="copy it again; it may have been cut short on its way",
                )
            ) from None
        homes |= dict.fromkeys(file.keys(), file)
    return set(homes), lambda name: homes[name].get_tensor(name)


def _listed(what: str, names: Sequence[str]) -> Iterator[Problem]:
    if names:
        names = list(dict.fromkeys(names))
        more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
        count = f"{len(names):,} weight{'s are' if len(names) > 1 else ' is'} {what}"
        yield Problem("weights", f"{count}: {', '.join(names[:_MOST_NAMES])}{more}")


def _before(back: Back | None, undo: Callable[[Tensor], Tensor] | None) -> Back | None:
    if back is None or undo is None:
        return None
    return lambda tensor: back(undo(tensor))


def _after(make: Make, change: Callable[[Tensor], Tensor]) -> Make:
    return lambda tensors: change(make(tensors))
