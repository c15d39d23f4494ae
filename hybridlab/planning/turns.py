"""A step as it is against the same step changed: in turns on this machine, and whether it still gives the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.session import device_of, synchronize
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import record
from hybridlab.trace.step import TrainingStep

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
"""Largest differences allowed, against the largest value: sums are added up in another order."""
ROUNDS, FEWEST_ROUNDS, MOST_SECONDS = 21, 7, 60.0
_PLAIN = -1
Some = TypeVar("Some")


class Variant(Protocol):
    """A change of a model that can be put on and taken off."""

    def on(self) -> None:
        """Run the model changed from now on."""

    def off(self) -> None:
        """Run the model as it was."""


@dataclass(frozen=True)
class Work:
    """What a step or a pass takes: operators that move numbers, bytes read and written, and bytes at its peak."""

    operators: int
    moved_bytes: int
    peak_bytes: int


def in_turns(step: TrainingStep, variants: Sequence[Variant], rounds: int) -> list[list[float]]:
    """Return milliseconds of the plain model and of each variant, a turn each in every round, in changing order.

    There are at least ``FEWEST_ROUNDS``, below which no interval tells a difference from luck, and no more than that
    where they take longer than ``MOST_SECONDS``.
    """
    times: list[list[float]] = [[] for _ in range(len(variants) + 1)]
    order = list(range(_PLAIN, len(variants)))
    began = time.monotonic()
    for turn in range(max(rounds, FEWEST_ROUNDS)):
        for at in order:
            if at != _PLAIN:
                variants[at].on()
            try:
                run_ms(step)
                times[at + 1].append(run_ms(step))
            finally:
                if at != _PLAIN:
                    variants[at].off()
        order = order[1:] + order[:1]
        if turn + 1 >= FEWEST_ROUNDS and time.monotonic() - began > MOST_SECONDS:
            break
    return times


def run_ms(step: TrainingStep) -> float:
    """Return the milliseconds of one run of a step.

    On a CPU it counts by its processor time where that is less than the clock's, as it is on one thread while others
    keep the machine busy.
    """
    device = device_of(step.model)
    synchronize(device)
    started, worked = time.perf_counter(), time.process_time()
    step.run(Attribution({}))
    synchronize(device)
    passed, worked = time.perf_counter() - started, time.process_time() - worked
    return 1e3 * (min(passed, worked) if device.type == "cpu" else passed)


def ratio(mine: Sequence[float], plain: Sequence[float]) -> Median:
    """Return the median of one time over the other, turn by turn."""
    return median([one / other for one, other in zip(mine, plain, strict=True)])


def fastest(step: TrainingStep, variants: Sequence[Variant], rounds: int) -> int | None:
    """Return the place of the variant that is fastest by the median; None where none is faster than the plain step."""
    if not variants:
        return None
    plain, *times = in_turns(step, variants, rounds)
    values = [ratio(mine, plain).value for mine in times]
    best = min(range(len(values)), key=values.__getitem__)
    return best if values[best] < 1 else None


def sets(each: Sequence[Some], ratios: Sequence[Median]) -> list[list[Some]]:
    """Return those that are surely faster alone, those that are by the median, and all; each set once, none empty."""
    both = list(zip(each, ratios, strict=True))
    found: list[list[Some]] = []
    for some in (
        [one for one, its in both if its.high < 1],
        [one for one, its in both if its.value < 1],
        list(each),
    ):
        if some and some not in found:
            found.append(some)
    return found


def tolerance(model: nn.Module) -> float:
    """Return the largest difference allowed in the number format of a model's weights."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return TOLERANCE.get(dtype, max(TOLERANCE.values()))


def difference(step: TrainingStep, variant: Variant) -> float:
    """Return the largest difference that a variant makes, against the largest value; in training, of any gradient.

    It is zero where no bit changes, and only there: the output counts too.
    """
    plain = _answers(step)
    variant.on()
    try:
        other = _answers(step)
    finally:
        variant.off()
    worst = 0.0
    for one, two in zip(plain, other, strict=True):
        worst = max(worst, gap(one, two))
    return worst


def gap(plain: Tensor, other: Tensor) -> float:
    """Return the largest difference between two tensors, against the largest finite value of the first.

    It is infinite where one has a number and the other has none.
    """
    if not plain.numel():
        return 0.0
    finite = plain[plain.isfinite()].abs()
    size = max(float(finite.max()) if finite.numel() else 0.0, 1e-30)
    apart = torch.where(plain == other, 0.0, (plain - other).abs())
    return float(apart.nan_to_num(torch.inf, torch.inf).max()) / size


def _answers(step: TrainingStep) -> list[Tensor]:
    """Return the output, and in training all gradients, the largest of which counts for each."""
    model = step.model
    with torch.random.fork_rng(), kept_buffers(model):
        torch.manual_seed(0)
        if step.loss is None:
            with torch.no_grad(), step.around():
                return [model(*step.inputs).double()]
        outputs: list[Tensor] = []
        loss = step.loss

        def noted(output: Any) -> Tensor:
            if isinstance(output, Tensor):
                outputs.append(output.detach().double())
            return loss(output)

        bare = TrainingStep(model, step.inputs, noted, around=step.around)
        gradients: list[Tensor] = []
        bare.run(
            Attribution({}),
            after_backward=lambda: gradients.extend(
                p.grad.double().flatten() for p in step.parameters if p.grad is not None
            ),
        )
        return outputs + ([torch.cat(gradients)] if gradients else [])


@contextlib.contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put buffers back that a forward changes."""
    before = [(one, one.clone()) for one in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for one, kept in before:
                one.copy_(kept)


def work(step: TrainingStep, variant: Variant) -> Work:
    """Count one step's operators and bytes, with a variant on."""
    variant.on()
    try:
        step.run(Attribution({}))
        stream = record(step, "measured")
    finally:
        variant.off()
    moved = stream.numbers("bytes_read").sum() + stream.numbers("bytes_written").sum()
    return Work(stream.ops.num_rows, int(moved), stream.peak_bytes)
