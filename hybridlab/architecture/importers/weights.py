"""Where each weight of an imported model comes from, and filling a model with them."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hybridlab.architecture.model import GraphModel, GroupModule, Slot
from hybridlab.errors import Problem, SpecError

Make = Callable[[list[Tensor]], Tensor]
Read = Callable[[str], Tensor]
_MOST_NAMES = 8


@dataclass(frozen=True)
class Way:
    """Names of published tensors, and what to make of them."""

    names: tuple[str, ...]
    make: Make


@dataclass(frozen=True)
class Take:
    """Where one of our weights comes from: the first way whose names are all there."""

    ways: tuple[Way, ...]

    def then(self, change: Callable[[Tensor], Tensor]) -> Take:
        """Return the same weight changed, such as transposed."""
        return Take(tuple(Way(way.names, _after(way.make, change)) for way in self.ways))

    def scaled(self, factor: float) -> Take:
        """Return the same weight with a multiplier folded in."""
        return self if factor == 1 else self.then(lambda tensor: tensor * factor)


Weights = Mapping[str, Mapping[str, Take]]
"""By the path of a node (or of a group with a norm), the weights in its place by name."""


def take(name: str) -> Take:
    """Return a published tensor as it stands."""
    return Take((Way((name,), lambda tensors: tensors[0]),))


def joined(*names: str) -> Take:
    """Return published tensors one below the other, such as queries, keys and values."""
    return Take((Way(names, torch.cat),))


def built(names: Sequence[str], make: Make) -> Take:
    """Return what a function makes of published tensors."""
    return Take((Way(tuple(names), make),))


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
        for path, name, parameter in _wanted(model):
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


def _wanted(model: GraphModel) -> Iterator[tuple[str, str, Tensor]]:
    """Yield every weight and buffer that a model keeps: its node's path, its name there, and itself."""
    borrowed = {(share.borrower, f"body.{share.weight}") for share in model.inference.shares}
    for module in model.modules():
        if isinstance(module, Slot):
            for name, tensor in module.state_dict(keep_vars=True).items():
                if (module.path, name) not in borrowed:
                    yield module.path, name, tensor
        elif isinstance(module, GroupModule) and module.norm is not None:
            for name, parameter in module.norm.named_parameters():
                yield module.path, f"norm.{name}", parameter


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
                Problem(str(path), f"cannot be read as weights: {error}", "a safetensors file")
            ) from None
        homes |= dict.fromkeys(file.keys(), file)
    return set(homes), lambda name: homes[name].get_tensor(name)


def _listed(what: str, names: Sequence[str]) -> Iterator[Problem]:
    if names:
        names = list(dict.fromkeys(names))
        more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
        count = f"{len(names):,} weight{'s are' if len(names) > 1 else ' is'} {what}"
        yield Problem("weights", f"{count}: {', '.join(names[:_MOST_NAMES])}{more}")


def _after(make: Make, change: Callable[[Tensor], Tensor]) -> Make:
    return lambda tensors: change(make(tensors))
