"""Plans one training step: its curve of peak and time, and the plan for a budget."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import program
from hybridlab.architecture.spec import Architecture
from hybridlab.components.types import TensorType
from hybridlab.errors import SpecError
from hybridlab.hardware.roofline import Roofline
from hybridlab.planning.choices import Choices, Unit, choices
from hybridlab.planning.plain_step import AHEAD, Ints, PlainStep
from hybridlab.planning.recompute import Recomputing, Span, random_state_bytes
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.planning.segments.compose import plain_step
from hybridlab.planning.shelf import NoShelf, shelf_speed
from hybridlab.planning.solve import Curve, Point, holds, point_of
from hybridlab.planning.trade_off import Part, TradeOff, Uniform
from hybridlab.planning.uniform import Spans, uniform_plans
from hybridlab.trace.calibration import Calibration, Directions, nearest
from hybridlab.trace.exact import Recipe, predict_stream
from hybridlab.trace.machine import this_cpu
from hybridlab.trace.predict import predict
from hybridlab.trace.stream import OpStream

Offload = Literal["same", "bfloat16"]
Arrange = Callable[[nn.Module], object]
_DTYPES: Mapping[Offload, torch.dtype | None] = {"same": None, "bfloat16": torch.bfloat16}
MOST_POINTS = 1000
"""Of a curve as plain data: more than a screen is wide."""


@dataclass(frozen=True)
class Planner:
    """One step of one architecture, traced and solved; plans come out of it in no time."""

    architecture: Architecture
    input_type: TensorType | None
    recipe: Recipe
    batch: int
    length: int
    names: tuple[str, ...]
    choices: Choices
    curve: Curve
    roofline: Roofline
    calibration: Calibration
    offload: Offload | None = None
    arrange: Arrange | None = None
    note: str = ""
    rests_on: str = ""
    """What times rest on: "components measured alone on this machine", for one."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """What each component takes to run and to keep, in running order, without the loss."""
        return self.choices.units[:-1]

    @property
    def plain(self) -> Figures:
        """What the plain step takes, predicted."""
        return figures(self.curve.point(len(self.curve) - 1))

    def at(self, axis: Literal["batch", "length"]) -> Callable[[int], Planner]:
        """Return what plans the same step with another batch or length; targets go with the length."""

        def made(size: int) -> Planner:
            if size == (self.batch if axis == "batch" else self.length):
                return self
            batch, length = (size, self.length) if axis == "batch" else (self.batch, size)
            target = self.recipe.target
            if target is not None:
                target = tuple(length if dim == self.length else dim for dim in target)
            return planner(
                self.architecture,
                self.input_type,
                batch=batch,
                length=length,
                recipe=replace(self.recipe, target=target),
                roofline=self.roofline,
                calibration=self.calibration,
                offload=self.offload,
                arrange=self.arrange,
                note=self.note,
            )

        return made

    def points(self) -> list[Plan]:
        """Return every plan that no other beats in peak and time, the smallest first; the last is the plain step."""
        return [self.plan(self.curve.point(index)) for index in range(len(self.curve))]

    def best(self, budget: Budget) -> Plan:
        """Return the fastest plan within a budget.

        Raises:
            SpecError: no plan is; it says the smallest peak and what holds it.
        """
        point = self.curve.best(budget.bytes_of(self.plain.peak_bytes))
        return self.plan(point).model_copy(update={"budget": budget})

    def plan(self, point: Point) -> Plan:
        """Write a point of the curve as a plan."""
        return Plan(
            fingerprint=self.architecture.fingerprint,
            components=self.names,
            recompute=tuple(self.names[first : last + 1] for first, last in point.spans),
            offload=tuple(self.names[place] for place in point.away),
            offload_as=self.offload if point.away and self.offload is not None else "same",
            batch=self.batch,
            length=self.length,
            predicted=figures(point),
            plain=self.plain,
            note=self.note,
            kept_because={unit.name: unit.held for unit in self.units if unit.held},
        )

    def trade_off(self, task: str = "", device: str = "cpu") -> TradeOff:
        """Return the curve as plain data, beside it what plans by count alone take; ``MOST_POINTS`` of it at most."""
        count = len(self.curve)
        some = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
        points = [self.curve.point(int(index)) for index in some]
        held = {place for place, unit in enumerate(self.units) if unit.held}
        by_count: dict[Spans, str] = {}
        for name, spans in uniform_plans(self.names, held).items():
            by_count.setdefault(spans, name)
        least = self.curve.point(0)
        return TradeOff(
            plain=self.plan(points[-1]).model_copy(update={"task": task, "device": device}),
            parts=tuple(map(_part, self.units)),
            peak_bytes=tuple(point.peak_bytes for point in points),
            step_ms=tuple(point.step_us / 1e3 for point in points),
            spans=tuple(point.spans for point in points),
            away=tuple(point.away for point in points) if self.offload is not None else (),
            offload_as=self.offload or "same",
            uniform=tuple(
                Uniform(name=name, spans=spans, predicted=figures(point_of(self.choices, spans)))
                for spans, name in by_count.items()
                if spans
            ),
            rests_on=self.rests_on,
            holder=holds(self.choices, least.spans, least.away),
        )

    def stream(self, plan: Plan) -> OpStream:
        """Predict the step that a plan makes, operator by operator.

        Raises:
            RunError: the plan was made for another architecture.
        """
        spans = plan.spans(self.architecture.fingerprint, self.names)
        return predict_stream(
            self.architecture,
            self.input_type,
            batch=self.batch,
            length=self.length,
            recipe=self.recipe,
            arrange=self._with(spans, plan.away(self.names)),
        )

    def _with(self, spans: Spans, away: tuple[int, ...]) -> Arrange:
        """Return what lets a model run by a plan, in the way that the step was traced in otherwise."""

        def both(model: nn.Module) -> None:
            arrange(spans, away, model)
            if self.arrange is not None:
                self.arrange(model)

        return both


def planner(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    batch: int = 8,
    length: int = 64,
    recipe: Recipe | None = None,
    roofline: Roofline | None = None,
    calibration: Calibration | None = None,
    offload: Offload | None = None,
    arrange: Arrange | None = None,
    note: str = "",
) -> Planner:
    """Trace a step and solve it for every budget; times are this CPU's, by what is kept of its components.

    With ``offload`` what is kept may also leave memory, in this type, at the speed that is measured here. ``arrange``
    changes the model before it is traced, to fuse it for example. ``note`` goes into every plan: what it is of.

    Raises:
        SpecError: the architecture has errors; it holds all of them.
    """
    inference = infer(architecture, input_type, batch=batch, length=length)
    if inference.errors:
        raise SpecError(inference.errors)
    recipe = recipe or Recipe()
    if calibration is None:
        threads = torch.get_num_threads()
        calibration = nearest(threads, recipe.cast) if roofline is None else Calibration()
    roofline = roofline or this_cpu(torch.get_num_threads())
    parts = min(batch, recipe.parts)
    first, *others = [
        plain_step(
            architecture,
            inference,
            batch=batch,
            length=length,
            recipe=recipe,
            arrange=arrange,
            part=part,
        )
        for part in _parts_told(batch, parts)
    ]
    plain = predict(
        architecture,
        input_type,
        batch=math.ceil(batch / parts),
        length=length,
        roofline=roofline,
        calibration=calibration,
        cast=recipe.cast,
    )

    def of(step: PlainStep) -> Choices:
        return choices(
            step,
            parts * row_us(step, inference, roofline, calibration),
            plain_us=1e3 * (parts * (plain.step_ms - plain.update_ms) + plain.update_ms),
            span_us=parts * span_us(),
            span_bytes=random_state_bytes(),
            shelf=None if offload is None else shelf_speed(_DTYPES[offload]),
        )

    given = replace(of(first), later=of(others[0]) if others else None)
    curve = Curve(given)
    asked = architecture, input_type, recipe, batch, length
    rests_on = calibration.rests_on(inference.slots.values())
    made = Planner(*asked, first.names, given, curve, roofline, calibration, offload, arrange, note)
    return replace(made, rests_on=rests_on)


def _parts_told(batch: int, parts: int) -> tuple[int | None, ...]:
    """Return which parts of a batch can hold its peak, None for one that is as large as any and finds gradients.

    Where the first part alone has a sample more than the others, it has no gradients yet, and they have fewer samples.
    """
    return (0, 1) if batch > parts > 1 and batch % parts == 1 else (None,)


def _part(unit: Unit) -> Part:
    return Part(
        name=unit.name,
        forward_ms=unit.forward_us / 1e3,
        again_ms=unit.again_us / 1e3,
        saved_bytes=unit.saved_bytes,
        forward_peak_bytes=unit.forward_peak_bytes,
        backward_peak_bytes=unit.backward_peak_bytes,
        kept_because=unit.held,
    )


def figures(point: Point) -> Figures:
    """Return what a point promises."""
    return Figures(peak_bytes=point.peak_bytes, step_ms=point.step_us / 1e3)


def row_us(
    step: PlainStep, inference: Inference, roofline: Roofline, calibration: Calibration
) -> Ints:
    """Return the microseconds of each row of a plain step, by the roofline and the factors of its component."""
    plans = {**inference.group_norms, **inference.slots}
    factors = [calibration.factors(plans[path]) if path in plans else None for path in step.paths]
    rows = step.rows
    back = rows.phase != AHEAD
    longer = np.array((calibration.company or (1.0, 1.0))[:2])
    alone = _us(rows.who, back, rows.flops, rows.moved, [*factors, None], roofline)
    return np.asarray(longer[back.astype(int)] * alone)


def stream_us(stream: OpStream, factors: Mapping[str, Directions], roofline: Roofline) -> Ints:
    """Return the microseconds of each row of a stream, by the roofline and the factors of who is at work."""
    names = stream.strings("component")
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    who = np.array([order[name] for name in names], dtype=int)
    back = np.array([name != "forward" for name in stream.strings("phase")], dtype=bool)
    moved = stream.numbers("bytes_read") + stream.numbers("bytes_written")
    known = list(map(factors.get, order))
    return _us(who, back, stream.numbers("flops"), moved, known, roofline)


def _us(
    who: Ints,
    back: Ints,
    flops: Ints,
    moved: Ints,
    factors: Sequence[Directions | None],
    roofline: Roofline,
) -> Ints:
    """Return the microseconds of operators: overhead and work by the factors of who does them and of the direction."""
    limits = np.array([one.working_set_bytes for one in roofline.bandwidths])
    speeds = np.array([one.bytes_per_s for one in roofline.bandwidths])
    level = np.minimum(np.searchsorted(limits, moved), len(limits) - 1)
    bound = np.maximum(flops / roofline.flops_per_s, moved / speeds[level])
    known = [factor or Directions() for factor in factors] or [Directions()]
    sides = [[one.forward for one in known], [one.backward for one in known]]
    overhead, work = (
        np.array([[getattr(factor, name) for factor in side] for side in sides])
        for name in ("overhead", "work")
    )
    way = np.asarray(back, dtype=int)
    return np.asarray(1e6 * (overhead[way, who] * roofline.overhead_s + work[way, who] * bound))


@functools.cache
def span_us() -> float:
    """Return the microseconds that each run takes beside what it computes again, measured once a process."""
    x = torch.zeros(8, requires_grad=True)

    def once(again: bool) -> float:
        began = time.perf_counter()
        y = checkpoint(torch.sin, x, use_reentrant=False) if again else torch.sin(x)
        y.sum().backward()
        return time.perf_counter() - began

    for again in (True, False):
        once(again)
    took = {again: min(once(again) for _ in range(20)) for again in (True, False)}
    return max(0.0, 1e6 * (took[True] - took[False]))


def arrange(spans: tuple[Span, ...], away: tuple[int, ...], model: nn.Module) -> None:
    """Let a model on fake tensors run by a plan; random states and what is offloaded are of no matter there."""
    assert isinstance(model, GraphModel)
    model.running = Recomputing(
        program(model), spans, keep_random=False, away=away, shelf=NoShelf(), model=model
    )
