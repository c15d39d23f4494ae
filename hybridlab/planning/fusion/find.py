"""Finds what can be fused: who reads which tensor in one pass, watched on real tensors."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridlab.architecture.model import GraphModel, GroupModule, Slot
from hybridlab.components.rotary import Tables, tables_once
from hybridlab.planning.fusion.norms import bare_form, bare_kind, foldable
from hybridlab.planning.fusion.record import Fold, Fusion


@dataclass(frozen=True)
class Candidate:
    """What can be fused in the same way in one or more places of a model."""

    name: str
    fusion: Fusion
    places: int


@dataclass(frozen=True)
class Refused:
    """Something that cannot be fused, by the path of its module, and why."""

    path: str
    why: str


@dataclass
class Found:
    """What can be fused in a model, and what cannot."""

    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def find(model: GraphModel, inputs: Sequence[Any], *, training: bool) -> Found:
    """Watch one pass of a model, without gradients, and return what can be fused in it.

    What is alike in several places, such as each repeat of a group, is one candidate. The pass runs in evaluation mode
    and leaves the model as it was.
    """
    speaking = _Speaking(model)
    found = Found()
    tables = Tables()
    with _evaluating(model):
        with tables_once(tables):
            plain = _watched(model, inputs)
        groups = _siblings(plain, found.refused)
        folds = [] if training else _folds(plain, found.refused)
        more: list[tuple[str, ...]] = []
        if folds:
            with _shared_bare(plain.modules, folds):
                more = _siblings(_watched(model, inputs), [])
    _add(found, speaking, [(group, ()) for group in groups], training)
    _add(found, speaking, [((), (fold,)) for fold in folds], training)
    across = [
        (group, tuple(f for f in folds if any(set(group) & set(names) for names in f.maps)))
        for group in more
        if group not in groups
    ]
    _add(found, speaking, across, training)
    _add_tables(found, speaking, tables, training)
    return found


def together(fusions: Sequence[Fusion]) -> Fusion:
    """Return all of some fusions of one model; of products that overlap the larger counts."""
    folds: dict[tuple[str, ...], Fold] = {f.norms: f for one in fusions for f in one.folds}
    products: list[tuple[str, ...]] = []
    for names in sorted((p for one in fusions for p in one.products), key=len, reverse=True):
        if not any(set(names) & set(other) for other in products):
            products.append(names)
    return fusions[0].model_copy(
        update={
            "products": tuple(products),
            "folds": tuple(folds.values()),
            "tables": any(one.tables for one in fusions),
        }
    )


def _add(
    found: Found,
    speaking: _Speaking,
    some: Sequence[tuple[tuple[str, ...], tuple[Fold, ...]]],
    training: bool,
) -> None:
    """Add candidates: each a product, folds, or a product with the folds that it needs; those alike as one."""
    alike: dict[str, list[tuple[tuple[str, ...], tuple[Fold, ...]]]] = {}
    for one in some:
        alike.setdefault(speaking.said(*one), []).append(one)
    for name, places in alike.items():
        folds = {fold.norms: fold for _, needed in places for fold in needed}
        fusion = Fusion(
            fingerprint=speaking.fingerprint,
            training=training,
            products=tuple(group for group, _ in places if group),
            folds=tuple(folds.values()),
        )
        count = len(fusion.products) or len(fusion.folds)
        found.candidates.append(Candidate(name, fusion, count))


def _add_tables(found: Found, speaking: _Speaking, tables: Tables, training: bool) -> None:
    """Add the tables of turns, where some of them are made more than once; a pass is watched twice."""
    needed = tables.asked // 2
    if needed > len(tables.made):
        fusion = Fusion(fingerprint=speaking.fingerprint, training=training, tables=True)
        name = f"turns of {needed} queries and keys by {_number(len(tables.made), 'table')}"
        found.candidates.append(Candidate(name, fusion, needed))


def _number(count: int, what: str) -> str:
    return f"one {what}" if count == 1 else f"{count} {what}s"


class _Speaking:
    """Says of modules which component's they are and what they are called there, without numbers of repeats."""

    def __init__(self, model: GraphModel) -> None:
        self.fingerprint = model.architecture.fingerprint
        self.modules = dict(model.named_modules())
        owners = (Slot, GroupModule)
        self.owners = {name: m for name, m in self.modules.items() if isinstance(m, owners)}

    def said(self, group: tuple[str, ...], folds: tuple[Fold, ...]) -> str:
        parts = []
        norms = [name for fold in folds for name in fold.norms]
        into = [name for fold in folds for names in fold.maps for name in names]
        if norms:
            parts.append(f"{_list(map(self.one, norms))} folded into {_list(map(self.one, into))}")
        if len(group) == 1:
            parts.append(f"{self.one(group[0])} as one product instead of one for each part")
        elif group:
            parts.append(f"{_list(map(self.one, group))} as one product")
        return "; ".join(parts)

    def one(self, name: str) -> str:
        owner = max((own for own in self.owners if name.startswith(f"{own}.")), key=len)
        module, inner = self.owners[owner], name.removeprefix(f"{owner}.")
        use = module.use if isinstance(module, Slot) else "group"
        made = self.modules[name]
        size = f" {made.in_features}→{made.out_features}" if isinstance(made, nn.Linear) else ""
        if inner == "norm":
            return f"{use}'s norm"
        return f"{use}.{inner.removeprefix('body.')}{size}"


def _list(names: Any) -> str:
    return " + ".join(names)


@dataclass
class _Seen:
    """One pass: what each linear map read, and where each norm's output went."""

    modules: dict[str, nn.Module]
    reads: list[tuple[str, Tensor, int]] = field(default_factory=list)
    in_parts: set[str] = field(default_factory=set)
    normed: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    """Path, input and output of each call of a norm."""
    others: dict[str, str] = field(default_factory=dict)
    """Norms whose output is read by something else than linear maps, and by what."""


class _WatchedLinear(nn.Linear):
    """A linear map that tells what it is given."""

    _watch: Callable[[Tensor], contextlib.AbstractContextManager[object]]

    def forward(self, input: Tensor) -> Tensor:
        with self._watch(input):
            return super().forward(input)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators that read a norm's output outside of linear maps, and parts of linear maps' weights."""

    def __init__(self, seen: _Seen, weights: dict[int, tuple[str, int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen, self.weights = seen, weights
        self.outputs: dict[int, str] = {}
        self.inside = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for leaf in tree_leaves([args, kwargs]):
            if not isinstance(leaf, Tensor) or leaf.layout is not torch.strided:
                continue
            storage = leaf.untyped_storage()._cdata
            name = self.outputs.get(storage)
            if name is not None and not self.inside:
                self.seen.others.setdefault(name, func._schema.name.removeprefix("aten::"))
            path, size = self.weights.get(storage, ("", 0))
            if leaf.numel() < size and not func.is_view:
                self.seen.in_parts.add(path)
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def reading(self, path: str, x: Tensor) -> Iterator[None]:
        self.seen.reads.append((path, x, x._version))
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def norm(self, path: str, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = plain(x)
        self.seen.normed.append((path, x, y))
        self.outputs.setdefault(y.untyped_storage()._cdata, path)
        return y


def _watched(model: GraphModel, inputs: Sequence[Any]) -> _Seen:
    modules = dict(model.named_modules())
    seen = _Seen(modules)
    linear = {name: m for name, m in modules.items() if type(m) is nn.Linear}
    weights = {
        m.weight.untyped_storage()._cdata: (name, m.weight.numel()) for name, m in linear.items()
    }
    with torch.no_grad(), torch.random.fork_rng():
        with _Watch(seen, weights):
            model(*inputs)
        watch = _Watch(seen, {})
        norms = {name: m for name, m in modules.items() if foldable(m)}
        given = {name: m.__dict__.get("forward") for name, m in norms.items()}
        try:
            for name, one in linear.items():
                one.__class__ = _WatchedLinear
                one.__dict__["_watch"] = functools.partial(watch.reading, name)
            for name, norm in norms.items():
                norm.__dict__["forward"] = functools.partial(watch.norm, name, norm.forward)
            with watch:
                output = model(*inputs)
        finally:
            for one in linear.values():
                one.__class__ = nn.Linear
                one.__dict__.pop("_watch", None)
            for name, norm in norms.items():
                norm.__dict__.pop("forward")
                if given[name] is not None:
                    norm.__dict__["forward"] = given[name]
    for leaf in tree_leaves(output):
        if (name := watch.outputs.get(leaf.untyped_storage()._cdata)) is not None:
            seen.others[name] = "the model's reader"
    return seen


def _siblings(seen: _Seen, refused: list[Refused]) -> list[tuple[str, ...]]:
    """Return the linear maps that always read one tensor together, and those that run in parts."""
    by_tensor: dict[tuple[int, int], list[str]] = {}
    for path, x, version in seen.reads:
        by_tensor.setdefault((id(x), version), []).append(path)
    of: dict[str, set[tuple[str, ...]]] = {}
    for read in by_tensor.values():
        for name in read:
            of.setdefault(name, set()).add(tuple(read))
    groups: dict[tuple[str, ...], None] = {}
    for names in map(tuple, by_tensor.values()):
        if len(names) < 2 and names[0] not in seen.in_parts:
            continue
        if any(of[name] != {names} for name in names) or len(set(names)) < len(names):
            why = "they do not read one tensor together each time that they run"
            refused.append(Refused(", ".join(dict.fromkeys(names)), why))
            continue
        first = seen.modules[names[0]]
        assert isinstance(first, nn.Linear)
        kinds = {(m.weight.dtype, m.weight.device) for m in map(seen.modules.get, names)}  # type: ignore[union-attr]
        if len(kinds) > 1:
            refused.append(Refused(", ".join(names), "their number formats or devices differ"))
            continue
        groups[names] = None
    return list(groups)


def _folds(seen: _Seen, refused: list[Refused]) -> list[Fold]:
    """Return the norms that linear maps alone read, those of one tensor and kind together."""
    normed: dict[int, str] = {id(y): path for path, _, y in seen.normed}
    maps: dict[str, dict[str, None]] = {}
    elsewhere = set()
    for path, x, _ in seen.reads:
        norm = normed.get(id(x))
        if norm is None:
            elsewhere.add(path)
        else:
            maps.setdefault(norm, {})[path] = None
    readers: dict[str, set[str]] = {}
    for norm, paths in maps.items():
        for path in paths:
            readers.setdefault(path, set()).add(norm)
    good: dict[str, tuple[str, ...]] = {}
    for norm in dict.fromkeys(path for path, _, _ in seen.normed):
        paths = maps.get(norm, {})
        if norm in seen.others:
            refused.append(
                Refused(norm, f"is read by {seen.others[norm]}, not by linear maps alone")
            )
        elif not paths:
            refused.append(Refused(norm, "is read by no linear map"))
        elif any(path in elsewhere or readers[path] != {norm} for path in paths):
            refused.append(Refused(norm, "a map that reads it reads something else too"))
        else:
            good[norm] = tuple(paths)
    return _by_tensor(seen, good)


def _by_tensor(seen: _Seen, good: dict[str, tuple[str, ...]]) -> list[Fold]:
    """Put norms together that read the same tensors and are the same without scale and shift."""
    read: dict[str, list[int]] = {}
    for path, x, _ in seen.normed:
        read.setdefault(path, []).append(id(x))
    alike: dict[Any, list[str]] = {}
    for norm in good:
        alike.setdefault((tuple(read[norm]), bare_kind(seen.modules[norm])), []).append(norm)
    return [
        Fold(norms=tuple(norms), maps=tuple(good[norm] for norm in norms))
        for norms in alike.values()
    ]


@contextlib.contextmanager
def _shared_bare(modules: dict[str, nn.Module], folds: Sequence[Fold]) -> Iterator[None]:
    """Let norms of one tensor give one and the same output, so that it shows who reads it."""
    last: dict[int, tuple[Tensor, Tensor]] = {}

    def once(form: Callable[[Tensor], Tensor], group: int, x: Tensor) -> Tensor:
        if group not in last or last[group][0] is not x:
            last[group] = x, form(x)
        return last[group][1]

    norms = [(modules[name], group) for group, fold in enumerate(folds) for name in fold.norms]
    try:
        for norm, group in norms:
            norm.__dict__["forward"] = functools.partial(once, bare_form(norm), group)
        yield
    finally:
        for norm, _ in norms:
            norm.__dict__.pop("forward", None)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    buffers = {name: one.clone() for name, one in model.named_buffers()}
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        with torch.no_grad():
            for name, one in model.named_buffers():
                if name in buffers:
                    one.copy_(buffers[name])
