"""Measures components in another number format: errors, time in turns, bytes kept; and keeps what is better."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import DeviceError, Problem, RunError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.chosen import Chosen
from hybridlab.planning.precision import judge
from hybridlab.planning.precision.apply import Mixed, unable
from hybridlab.planning.precision.cases import (
    Case,
    Judged,
    Limits,
    cases_of,
    compare,
    fastest,
    smallest,
    time_alone,
)
from hybridlab.planning.precision.judge import Errors, turned_on
from hybridlab.planning.precision.record import Format, Measures, Precisions
from hybridlab.planning.turns import ROUNDS, Work
from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.session import device_of
from hybridlab.trace.step import Loss, TrainingStep

PARTS = 4
LOSS_TOLERANCE, TOLERANCE = 1e-2, 5e-2
"""Largest relative differences from float32: of the loss, and of the norm of gradients, or of the output forward."""


@dataclass(frozen=True, kw_only=True)
class PrecisionReport(Chosen):
    """What other formats bring; ``precisions`` is empty where they bring nothing.

    Errors and bytes kept for backward are of the step with all that is kept, beside those of the step as it is.
    """

    precisions: Precisions
    judged: tuple[Judged, ...]
    memory: bool
    loss_error: float
    loss_tolerance: float
    plain_loss_error: float
    plain_error: float
    plain_saved_bytes: int
    saved_bytes: int
    mixed: Work
    mixed_ms: Median

    @property
    def choice(self) -> Precisions:
        """Which components compute in another format."""
        return self.precisions


def choose_precisions(
    step: TrainingStep,
    loss: Loss,
    *,
    format: Format | None = None,
    memory: bool = False,
    tolerance: float = TOLERANCE,
    loss_tolerance: float = LOSS_TOLERANCE,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> PrecisionReport:
    """Choose components that compute in another format, where that is within a tolerance and measured better.

    Each component alone is run in it on what it reads in its place, and then in the whole, against float32. Of those
    that are right the largest sets within the tolerance are timed in turns with the step as it is: out of those that
    are surely faster alone, those that are by the median, and all. The fastest is kept where it is faster once more, in
    turns that had no part in choosing it, and within the tolerance with the weights as turns have moved them too. For
    ``memory`` it is the largest set, out of those that keep less for backward, if it keeps less together. Where the
    step itself is not in float32 a set may be as far from it as the step is. The model is left as it was.

    Args:
        step: a training step, whose weights move as in training; without a loss it is inference.
        loss: of an output, also for inference.
        format: bfloat16 where nothing is said, or float32 in a step that computes in another one.
        memory: whether it is for fewer bytes kept for backward, rather than for less time.
        tolerance: largest relative difference of gradients, or of the output in inference, from float32.
        loss_tolerance: the same of the loss.
        rounds: turns, fewer where they take long.
        on_part: hears before each part how many of how many are done; what it raises ends the measurement.

    Raises:
        RunError: the model is not built from an architecture, or the format is the step's own or asks for a training.
        DeviceError: the device cannot compute in the format.
    """
    model, training = step.model, step.loss is not None
    if not isinstance(model, GraphModel):
        raise RunError(Problem("model", "is not built from an architecture"))
    model.train(training)
    nothing = _nothing(step, model)
    chosen_format = format or ("bfloat16" if nothing.within == "float32" else "float32")
    _check(chosen_format, nothing, device_of(model), memory=memory)
    others = Others()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_part(0, PARTS)
        exact = judge.answer(judge.in_float32(step), loss)
        plain_errors = judge.errors(exact, judge.answer(step, loss))
        allowed = plain_errors.or_else(Errors(loss_tolerance, tolerance))
        cases = cases_of(step, model, nothing, chosen_format)
        limits = Limits(step, loss, exact, allowed, nothing)
        for one in cases:
            if one.right:
                compare(one, limits)
        on_part(1, PARTS)
        time_alone(step, [one for one in cases if one.right], rounds)
        on_part(2, PARTS)
        right = [one for one in cases if one.right]
        some = smallest(limits, right) if memory else fastest(limits, right, rounds)
        chosen = limits.together(some)
        mixed = Mixed(model, chosen)
        limits.exact = judge.answer(judge.in_float32(step), loss)  # turns have moved the weights
        plain_errors = judge.errors(limits.exact, judge.answer(step, loss))
        found = limits.errors(mixed) if some else plain_errors
        close = found.within(plain_errors.or_else(Errors(loss_tolerance, tolerance)))
        bytes_before = judge.saved_bytes(step, loss)
        bytes_after = bytes_before
        if some:
            with turned_on(mixed):
                bytes_after = judge.saved_bytes(step, loss)
        plain_ms, mixed_ms = turns.in_turns(step, [mixed], rounds)
        ratio = turns.ratio(mixed_ms, plain_ms)
        better = bytes_after < bytes_before if memory else ratio.high < 1
        why = _why(right, some, better=better, close=close, memory=memory)
        if not (some and better and close):
            chosen, found, bytes_after = nothing, plain_errors, bytes_before
            mixed = Mixed(model, nothing)
        else:
            measured = Measures(
                loss_error=found.loss,
                error=found.values,
                time=ratio.value,
                saved_bytes=bytes_after,
                plain_saved_bytes=bytes_before,
            )
            chosen = chosen.model_copy(update={"measured": measured})
        judged = tuple(_verdict(one, chosen, some, memory=memory) for one in cases)
        on_part(3, PARTS)
        plain_work, mixed_work = turns.work(step, Mixed(model, nothing)), turns.work(step, mixed)
    on_part(4, PARTS)
    return PrecisionReport(
        precisions=chosen,
        why=why,
        judged=judged,
        memory=memory,
        error=found.values,
        tolerance=tolerance,
        loss_error=found.loss,
        loss_tolerance=loss_tolerance,
        plain_loss_error=plain_errors.loss,
        plain_error=plain_errors.values,
        plain_saved_bytes=bytes_before,
        saved_bytes=bytes_after,
        plain=plain_work,
        mixed=mixed_work,
        plain_ms=median(plain_ms),
        mixed_ms=median(mixed_ms),
        ratio=ratio,
        others_cores=others.cores(),
    )


def _nothing(step: TrainingStep, model: GraphModel) -> Precisions:
    """Return a choice of nothing, which knows the step's own format and device."""
    kind = device_of(model).type
    within: Format = "float32"
    with step.around():
        if torch.is_autocast_enabled(kind):
            bfloat = torch.get_autocast_dtype(kind) is torch.bfloat16
            within = "bfloat16" if bfloat else "float16"
    return Precisions(
        fingerprint=model.architecture.fingerprint,
        training=step.loss is not None,
        device=kind,
        within=within,
    )


def _check(name: Format, nothing: Precisions, device: torch.device, *, memory: bool) -> None:
    """Refuse a format that brings nothing, or that cannot be had.

    Raises:
        RunError: the step computes in it already, or keeps nothing for a backward.
        DeviceError: the device cannot.
    """
    if name == nothing.within:
        fix = "ask for another format"
        raise RunError(Problem("format", f"is that of the whole step: {name}", fix=fix))
    if memory and not nothing.training:
        raise RunError(Problem("memory", "is kept for backward in training steps only"))
    if why := unable(device, name, training=nothing.training):
        raise DeviceError(Problem("format", why, got=name))


def _why(
    right: Sequence[Case], some: Sequence[Case], *, better: bool, close: bool, memory: bool
) -> str:
    """Say what came of it."""
    if not right:
        return "no component may compute in it"
    if some and better and not close:
        return f"what {'keeps fewer bytes' if memory else 'is faster'} is not within the tolerance together"
    if some and better:
        return "keeps fewer bytes" if memory else "is faster"
    if memory:
        return "no set of components within the tolerance keeps fewer bytes"
    if some or any(one.judged.ratio and one.judged.ratio.high < 1 for one in right):
        return "what seemed faster is not measured faster together"
    return "no component is measured faster in it"


def _verdict(one: Case, chosen: Precisions, some: Sequence[Case], *, memory: bool) -> Judged:
    """Say of a component whether it is kept, and why or why not."""
    judged = one.judged
    if not one.right:
        return judged
    faster = judged.ratio is not None and judged.ratio.high < 1
    less = (judged.saved_bytes or 0) < (judged.plain_saved_bytes or 0)
    if judged.component in chosen.formats:
        alone_why = "keeps fewer bytes" if memory else "is faster"
        why = alone_why if memory or faster else "is faster with the others"
        return replace(judged, kept=True, why=why)
    if one in some:
        return replace(judged, why="is not better together with the others")
    if memory:
        why = "is too much with the others" if less else "keeps no fewer bytes"
        return replace(judged, why=why)
    why = "is not faster together with the others" if faster else "is not measured faster"
    return replace(judged, why=why)
