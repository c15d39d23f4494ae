"""Chooses how each hand-over lies, and how sequences lie within components, by what each combination takes here.

A component in its place, its norm and residual with it, is timed alone for each way in which its inputs may lie, its
output is to lie and it can run: what it does to turn them is in its time. Over the graph the cheapest sum is found
exactly (``solve``). Where every bit is to stay, a combination that changes one is none: what reads a tensor that lies
otherwise may add in another order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import Slot
from hybridlab.components.channel_major import LAYOUTS, Layout
from hybridlab.planning import turns
from hybridlab.planning.layout.hand_over import laid
from hybridlab.planning.layout.solve import Table, cheapest
from hybridlab.planning.layout.visits import Visit, visits
from hybridlab.profiling.medians import median
from hybridlab.trace.step import TrainingStep

_MOST_TURNED = 2
"""Inputs of a component that may be turned, each as it likes; of more, all stay as they lie."""
_ROUNDS = 9


@dataclass(frozen=True)
class HandOver:
    """What one component gives others: how it is to lie, and the sum over the graph with it either way, *measured*.

    The sum is that of the components that have a choice, each timed alone; by channels it is None where that would
    change bits and none may change.
    """

    writer: str
    readers: tuple[str, ...]
    layout: Layout
    tokens_ms: float
    channels_ms: float | None


@dataclass(frozen=True)
class Laid:
    """The cheapest way of the graph: by path what is handed over by channels, and how sequences lie within."""

    hand_overs: tuple[HandOver, ...] = ()
    within: Mapping[str, Layout] = field(default_factory=dict)

    @property
    def turned(self) -> dict[str, Layout]:
        """What is handed over by channels."""
        return {one.writer: one.layout for one in self.hand_overs if one.layout == "channels"}


def cheapest_layouts(step: TrainingStep, rounds: int = _ROUNDS, *, exact: bool = False) -> Laid:
    """Measure the components that can hand over or run by channels, and return what is cheapest over the graph.

    A difference that is not shown counts as none, and what is equal stays by tokens. The model is left as it was.
    ``exact`` leaves out what changes a bit of a component's output or gradients.
    """
    seen = visits(step)
    readers: dict[str, list[str]] = {}
    for visit in seen:
        for source in visit.sources:
            if source is not None:
                readers.setdefault(source, []).append(visit.slot.path)
    giving = {one.slot.path for one in seen if one.gives_sequence and one.slot.path in readers}
    known: dict[str, dict[tuple[str, ...], float]] = {}
    options: dict[str, Sequence[str]] = {}
    tables = []
    for visit in seen:
        free = _free(visit, giving)
        if free is None:
            continue
        key = repr((_speaking(visit), free.inputs, free.output))
        if key not in known:
            known[key] = _costs(visit, free, step, min(rounds, _ROUNDS), exact)
        names = _names(visit, free)
        options.update(dict.fromkeys(names, LAYOUTS))
        tables.append(_once(names, known[key]))
    if not options:
        return Laid()
    _, chosen = cheapest(options, tables)
    hand_overs = []
    for path in [name for name in options if name in giving]:
        sums = {one: cheapest({**options, path: (one,)}, tables)[0] for one in LAYOUTS}
        layout: Layout = "channels" if chosen[path] == "channels" else "tokens"
        told = tuple(dict.fromkeys(readers[path]))
        by_channels = sums["channels"] if math.isfinite(sums["channels"]) else None
        hand_overs.append(HandOver(path, told, layout, sums["tokens"], by_channels))
    within: dict[str, Layout] = {
        name.removesuffix(_INSIDE): layout
        for name, one in chosen.items()
        if name.endswith(_INSIDE)
        for layout in LAYOUTS
        if layout == one
    }
    return Laid(tuple(hand_overs), within)


_INSIDE = " within"


@dataclass(frozen=True)
class _Free:
    """What can lie either way of a visit: the places of inputs, the output, and the component itself."""

    inputs: tuple[int, ...]
    output: bool
    inside: bool

    def ways(self) -> list[tuple[Layout, ...]]:
        """Return all combinations, as things lie first."""
        count = len(self.inputs) + self.output + self.inside
        return list(itertools.product(LAYOUTS, repeat=count))


def _free(visit: Visit, giving: set[str]) -> _Free | None:
    inputs = tuple(at for at, source in enumerate(visit.sources) if source in giving)
    if len(inputs) > _MOST_TURNED:
        return None
    free = _Free(inputs, visit.slot.path in giving, hasattr(visit.slot.body, "layout"))
    return free if free.inputs or free.output or free.inside else None


def _names(visit: Visit, free: _Free) -> tuple[str, ...]:
    path = visit.slot.path
    names = [str(visit.sources[at]) for at in free.inputs]
    return tuple(names + [path] * free.output + [path + _INSIDE] * free.inside)


def _once(names: tuple[str, ...], costs: Mapping[tuple[str, ...], float]) -> Table:
    """Return a table in which each choice stands once, also where a component reads the same value twice."""
    single = tuple(dict.fromkeys(names))
    kept = {}
    for combination, cost in costs.items():
        chosen = dict(zip(names, combination, strict=True))
        if all(chosen[name] == one for name, one in zip(names, combination, strict=True)):
            kept[tuple(chosen[name] for name in single)] = cost
    return Table(single, kept)


def _speaking(visit: Visit) -> tuple[object, ...]:
    """Return what decides how long a visit takes."""
    slot = visit.slot
    shapes = [(tuple(x.shape), str(x.dtype)) for x in visit.inputs]
    return (
        slot.use,
        str(slot.body.params),
        str(slot.residual),
        str(slot.norm),
        str(slot.body),
        shapes,
    )


class _Alone(nn.Module):
    """A component in its place on what it read there, laid one way or the other."""

    def __init__(self, slot: Slot, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.slot = slot
        self.given = inputs
        self.output: Layout | None = None

    def forward(self) -> Tensor:
        given = [
            x.detach().requires_grad_(torch.is_grad_enabled() and x.is_floating_point())
            for x in self.given
        ]
        y: Tensor = self.slot(*given)
        return y if self.output is None else laid(y, self.output)


class _Way:
    """One combination, on or off."""

    def __init__(self, alone: _Alone, visit: Visit, free: _Free, way: tuple[Layout, ...]) -> None:
        self.alone, self.body = alone, visit.slot.body
        given = list(visit.inputs)
        for at, layout in zip(free.inputs, way, strict=False):
            given[at] = laid(given[at], layout)
        self.given = tuple(given)
        self.output = way[len(free.inputs)] if free.output else None
        self.inside = way[-1] if free.inside else None

    def on(self) -> None:
        self.before = self.alone.given, self.alone.output, getattr(self.body, "layout", None)
        self.alone.given, self.alone.output = self.given, self.output
        if self.inside is not None:
            self.body.__dict__["layout"] = self.inside

    def off(self) -> None:
        self.alone.given, self.alone.output, inside = self.before
        if self.inside is not None:
            self.body.__dict__["layout"] = inside


def _costs(
    visit: Visit, free: _Free, step: TrainingStep, rounds: int, exact: bool
) -> dict[tuple[str, ...], float]:
    """Return the milliseconds of each combination, in training backward too; infinite where one is none."""
    alone = _Alone(visit.slot, visit.inputs).train(step.model.training)
    ways = free.ways()
    variants = {way: _Way(alone, visit, free, way) for way in ways}
    weights: dict[tuple[int, ...], Tensor] = {}

    def loss(output: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if shape not in weights:
            generator = torch.Generator(output.device).manual_seed(0)
            weights[shape] = torch.randn(shape, generator=generator, device=output.device)
        return (output.float() * weights[shape]).sum()

    run = TrainingStep(alone, (), loss=loss if step.loss is not None else None, around=step.around)
    with torch.random.fork_rng(), turns.kept_buffers(alone):
        kept = [
            w for w in ways if w == ways[0] or not exact or not turns.difference(run, variants[w])
        ]
        _, plain, *others = turns.in_turns(run, [variants[way] for way in kept], rounds)
    plain_ms = median(plain).value
    costs: dict[tuple[str, ...], float] = {way: math.inf for way in ways}  # noqa: C420
    costs[ways[0]] = plain_ms
    for way, mine in zip(kept[1:], others, strict=True):
        ratio = turns.ratio(mine, plain)
        shown = ratio.high < 1 or ratio.low > 1
        costs[way] = plain_ms * ratio.value if shown else plain_ms
    return costs
