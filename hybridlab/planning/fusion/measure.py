"""Measures what could be fused against the model as it is, in turns, and keeps what is faster on this machine."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, RunError
from hybridlab.planning.fusion.apply import Fused
from hybridlab.planning.fusion.find import Candidate, Refused, find, together
from hybridlab.planning.fusion.record import Fusion
from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.session import device_of, synchronize
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import record
from hybridlab.trace.step import TrainingStep

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
"""Largest differences allowed, against the largest value: sums are added up in another order."""
ROUNDS, FEWEST_ROUNDS, MOST_SECONDS = 21, 7, 60.0
BUSY_CORES = 0.25
"""Cores that others used meanwhile, from which on figures are not timings."""
_PLAIN = -1


@dataclass(frozen=True)
class Judged:
    """A candidate: whether it is kept and why, its difference, and its time over that of the model as it is."""

    name: str
    places: int
    kept: bool
    why: str
    error: float
    ratio: Median | None = None


@dataclass(frozen=True)
class Work:
    """What a step or a pass takes: operators that move numbers, bytes read and written, and bytes at its peak."""

    operators: int
    moved_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class FusionReport:
    """What fused and what did not; ``fusion`` is empty where nothing is faster.

    ``ratio`` is fused over plain, turn by turn, of rounds that had no part in choosing. ``others_cores`` is how many
    cores other processes used meanwhile.
    """

    fusion: Fusion
    why: str
    judged: tuple[Judged, ...]
    refused: tuple[Refused, ...]
    error: float
    tolerance: float
    plain: Work
    fused: Work
    plain_ms: Median
    fused_ms: Median
    ratio: Median
    others_cores: float

    @property
    def applied(self) -> bool:
        """Whether anything is fused."""
        return bool(self.fusion.products or self.fusion.folds)

    @property
    def busy(self) -> bool:
        """Whether others kept the machine so busy that milliseconds are no timings; ratios still compare."""
        return self.others_cores > BUSY_CORES

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            **asdict(self),
            "fusion": self.fusion.as_dict(),
            "applied": self.applied,
            "busy": self.busy,
        }


def choose_fusion(
    step: TrainingStep,
    *,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> FusionReport:
    """Find what can be fused in a step's model, and keep what is as right and measured faster; the model is left plain.

    A step without a loss is inference, where the model is put in evaluation mode. Of a training step the weights move
    meanwhile as in training. A candidate is kept where the interval of its time over the plain one, turn by turn, lies
    below one; all that are kept are then measured together once more. ``on_part`` hears before each part how many of
    how many are done; what it raises ends the measurement.

    Raises:
        RunError: the model is not built from an architecture, or is fused already.
    """
    model, training = step.model, step.loss is not None
    if not isinstance(model, GraphModel):
        raise RunError(Problem("model", "is not built from an architecture"))
    model.train(training)
    others = _Others()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_part(0, 4)
        found = find(model, step.inputs, training=training)
        tolerance = TOLERANCE.get(_dtype(model), max(TOLERANCE.values()))
        right, judged = _verified(step, found.candidates, tolerance)
        on_part(1, 4)
        times = _in_turns(step, [Fused(model, one.fusion) for one in right], rounds)
        ratios = {
            one.name: _ratio(mine, times[0]) for one, mine in zip(right, times[1:], strict=True)
        }
        judged = [_timed(one, ratios.get(one.name)) for one in judged]
        kept = [one for one in right if ratios[one.name].high < 1]
        on_part(2, 4)
        nothing = Fusion(fingerprint=model.architecture.fingerprint, training=training)
        chosen = together([one.fusion for one in kept]) if kept else nothing
        fused = Fused(model, chosen)
        error = _error(step, fused) if kept else 0.0
        plain_times, fused_times = _in_turns(step, [fused], rounds)
        ratio = _ratio(fused_times, plain_times)
        why = "nothing that can be fused is measured faster" if found.candidates else _NOTHING
        if kept:
            good = ratio.high < 1 and error <= tolerance
            why = "is faster" if good else "what was faster alone is not measured faster together"
            if not good:
                chosen, fused = nothing, Fused(model, nothing)
        on_part(3, 4)
        plain_work, fused_work = _work(step, Fused(model, nothing)), _work(step, fused)
    on_part(4, 4)
    return FusionReport(
        *(chosen, why, tuple(judged), tuple(found.refused), error, tolerance),
        *(plain_work, fused_work, median(plain_times), median(fused_times), ratio),
        others.cores(),
    )


_NOTHING = "no linear maps read one tensor, and no norm is read by linear maps alone"


def _timed(one: Judged, ratio: Median | None) -> Judged:
    if ratio is None:
        return one
    faster = ratio.high < 1
    return replace(
        one, kept=faster, why="is faster" if faster else "is not measured faster", ratio=ratio
    )


def _dtype(model: GraphModel) -> torch.dtype:
    return next((p.dtype for p in model.parameters()), torch.float32)


def _verified(
    step: TrainingStep, candidates: Sequence[Candidate], tolerance: float
) -> tuple[list[Candidate], list[Judged]]:
    """Run each candidate once against the plain model; return those that give the same, and a word on each."""
    right, judged = [], []
    for one in candidates:
        assert isinstance(step.model, GraphModel)
        fused = Fused(step.model, one.fusion)
        places = len(one.fusion.products) or len(one.fusion.folds)
        try:
            error = _error(step, fused)
        except (RuntimeError, TypeError) as failed:
            why = f"does not run: {(str(failed).splitlines() or [''])[0][:80]}"
            judged.append(Judged(one.name, places, False, why, float("nan")))
            continue
        why = ""
        if not error <= tolerance:
            why = f"differs by {error:.1e} of the largest value, more than {tolerance:.0e}"
        elif fused.wasted():
            why = "its maps did not all ask for what was computed together"
        judged.append(Judged(one.name, places, False, why, error))
        right += [] if why else [one]
    return right, judged


def _error(step: TrainingStep, fused: Fused) -> float:
    """Return the largest difference that a fusion makes, against the largest value; in training, of any gradient."""
    plain = _answers(step)
    fused.on()
    try:
        other = _answers(step)
    finally:
        fused.off()
    worst = 0.0
    for one, two in zip(plain, other, strict=True):
        if one.numel():
            size = max(float(one.abs().max()), 1e-30)
            worst = max(worst, float((one - two).abs().max()) / size)
    return worst


def _answers(step: TrainingStep) -> list[Tensor]:
    """Return the output of a pass, or in training the loss and all gradients, the largest of which counts for each."""
    model = step.model
    with torch.random.fork_rng(), _kept_buffers(model):
        torch.manual_seed(0)
        if step.loss is None:
            with torch.no_grad(), step.around():
                return [model(*step.inputs).double()]
        bare = TrainingStep(model, step.inputs, step.loss, around=step.around)
        gradients: list[Tensor] = []
        bare.run(
            Attribution({}),
            after_backward=lambda: gradients.extend(
                p.grad.double().flatten() for p in step.parameters if p.grad is not None
            ),
        )
        return [torch.cat(gradients)] if gradients else []


@contextlib.contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put buffers back that a forward changes."""
    before = [(one, one.clone()) for one in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for one, kept in before:
                one.copy_(kept)


def _in_turns(step: TrainingStep, variants: Sequence[Fused], rounds: int) -> list[list[float]]:
    """Return milliseconds of the plain model and of each variant, a turn each in every round, in changing order."""
    times: list[list[float]] = [[] for _ in range(len(variants) + 1)]
    order = list(range(_PLAIN, len(variants)))
    began = time.monotonic()
    for turn in range(rounds):
        for at in order:
            if at != _PLAIN:
                variants[at].on()
            try:
                _run_ms(step)
                times[at + 1].append(_run_ms(step))
            finally:
                if at != _PLAIN:
                    variants[at].off()
        order = order[1:] + order[:1]
        if turn + 1 >= FEWEST_ROUNDS and time.monotonic() - began > MOST_SECONDS:
            break
    return times


def _run_ms(step: TrainingStep) -> float:
    device = device_of(step.model)
    synchronize(device)
    started = time.perf_counter()
    step.run(Attribution({}))
    synchronize(device)
    return 1e3 * (time.perf_counter() - started)


def _ratio(mine: Sequence[float], plain: Sequence[float]) -> Median:
    return median([one / other for one, other in zip(mine, plain, strict=True)])


def _work(step: TrainingStep, fused: Fused) -> Work:
    """Count one step's operators and bytes, with a fusion on."""
    fused.on()
    try:
        step.run(Attribution({}))
        stream = record(step, "measured")
    finally:
        fused.off()
    moved = stream.numbers("bytes_read").sum() + stream.numbers("bytes_written").sum()
    return Work(stream.ops.num_rows, int(moved), stream.peak_bytes)


class _Others:
    """How many cores other processes use from now on."""

    def __init__(self) -> None:
        self.began = self._now()

    def cores(self) -> float:
        wall, all_, mine = (now - then for now, then in zip(self._now(), self.began, strict=True))
        return round(max(0.0, all_ - mine) / wall, 3) if wall > 0.05 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        own = os.times()
        return time.monotonic(), sum(times[:8]) - idle, own.user + own.system
