"""Measures regions compiled against the model as it is, in turns, and keeps what is faster on this machine."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, RunError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.compiled import missing_compiler, told
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.regions.apply import Compiled, Region, made
from hybridlab.planning.regions.counts import Counting
from hybridlab.planning.regions.equal import allowed, answers, apart
from hybridlab.planning.regions.find import Candidate, alone, find
from hybridlab.planning.regions.record import Regions, Shapes
from hybridlab.planning.regions.report import Break, Judged, NotTried, RegionsReport
from hybridlab.planning.turns import ROUNDS, Work
from hybridlab.profiling.medians import median
from hybridlab.profiling.session import device_of
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.trace.step import TrainingStep

MOST = 12
"""Regions that are compiled and timed where nothing else is said, the most promising first."""
OnPart = Callable[[int, int, str], object]


def choose_regions(
    step: TrainingStep,
    *,
    rounds: int = ROUNDS,
    most: int = MOST,
    left_out: Mapping[str, str] | None = None,
    counting: Counting | None = None,
    on_part: OnPart = lambda done, parts, doing: None,
) -> RegionsReport:
    """Compile what may be faster so in a step's model, and keep what is as right and measured faster.

    A step without a loss is inference, where the model is put in evaluation mode. Of a training step the weights move
    meanwhile as in training. Each region is compiled and timed alone, forward and in training backward too, turn by
    turn with itself plain. Those that are surely faster, and those that are by the median, are then timed in the whole
    step, in all places; the faster set is kept where in further turns, which had no part in choosing it, the interval
    of its time over the plain one lies below one. The model is left plain.

    Args:
        step: whose model it is.
        rounds: turns, fewer where they take long.
        most: how many regions are compiled.
        left_out: why regions are not compiled, by their first path: those that did not come to an end before.
        counting: what compiles; PyTorch's own compiler where it is None.
        on_part: hears before each part how many of how many are done and what comes: a region's first path, or
            nothing; what it raises ends the measurement.

    Raises:
        RunError: the model is not built from an architecture, or the machine has no compiler for its device.
    """
    model, training = step.model, step.loss is not None
    if not isinstance(model, GraphModel):
        raise RunError(Problem("model", "is not built from an architecture"))
    device = device_of(model)
    if counting is None and (missing := missing_compiler(device)):
        raise RunError(
            Problem("compile", missing, fix="install one; nothing can be compiled without")
        )
    measuring = _Measuring(step, rounds, counting or Counting(), allowed(step))
    model.train(training)
    others = Others()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_part(0, 1, "")
        candidates, refused = find(step)
        tried, later = candidates[:most], candidates[most:]
        refused += [_later(one, most) for one in later]
        parts = len(tried) + 3
        judged = []
        for done, one in enumerate(tried):
            on_part(done, parts, one.paths[0])
            why = (left_out or {}).get(one.paths[0], "")
            judged.append(_untried(one, why) if why else measuring.alone(one))
        nothing = Regions(
            fingerprint=model.architecture.fingerprint,
            device=device.type,
            training=training,
            batch=len(step.inputs[0]),
        )
        on_part(len(tried), parts, "")
        kept, why = measuring.fastest(judged, nothing)
        on_part(len(tried) + 1, parts, "")
        plain_times, times, error = measuring.once_more(kept)
        ratio = turns.ratio(times, plain_times)
        if kept is not None:
            good = ratio.high < 1 and error <= measuring.tolerance
            why = "is faster" if good else "what seemed faster is not measured faster together"
            kept = kept if good else None
        chosen = kept.record if kept is not None else nothing
        judged = [_verdict(one, chosen) for one in judged]
        on_part(len(tried) + 2, parts, "")
        plain, after = measuring.work(kept, judged)
        torch._dynamo.reset()
    on_part(parts, parts, "")
    return RegionsReport(
        regions=chosen,
        why=why,
        judged=tuple(judged),
        refused=tuple(refused),
        error=error,
        tolerance=measuring.tolerance,
        plain=plain,
        compiled=after,
        plain_ms=median(plain_times),
        compiled_ms=median(times),
        ratio=ratio,
        others_cores=others.cores(),
        torch=torch.__version__,
    )


@dataclass
class _Measuring:
    """Measures regions of one step: alone, in sets, and once more."""

    step: TrainingStep
    rounds: int
    counting: Counting
    tolerance: float
    compiled: dict[str, float] = field(default_factory=dict)
    """Seconds that compiling a region took, by its first path."""
    shapes: dict[str, Shapes] = field(default_factory=dict)
    """Shapes of what a region reads, by its first path."""

    @property
    def model(self) -> GraphModel:
        assert isinstance(self.step.model, GraphModel)
        return self.step.model

    def alone(self, one: Candidate) -> Judged:
        """Compile a region, compare it with itself plain, and time both in turn."""
        lone = alone(self.step, one)
        plain = answers(lone)
        judged = Judged(
            name=one.name,
            paths=tuple(one.paths),
            why="",
            plain=one.plain,
            chained_bytes=one.chained_bytes,
            saved_bytes=one.saved_bytes,
        )
        variant, judged = self._compile(one, lone, judged)
        if variant is None:
            return judged
        try:
            variant.on()
            error = apart(plain, answers(lone))
        finally:
            variant.off()
        judged = judged.model_copy(update={"error": error})
        if not error <= self.tolerance:
            why = f"differs by {error:.1e} of the largest value, more than {self.tolerance:.0e}"
            return judged.model_copy(update={"why": why, "error": min(error, 1e30)})
        try:
            times, mine = turns.in_turns(lone, [variant], self.rounds)
        except Exception as failed:
            if is_out_of_memory(failed):
                raise
            return judged.model_copy(update={"why": f"does not run: {told(failed)}"})
        ratio = turns.ratio(mine, times)
        why = "is faster" if ratio.high < 1 else "is not measured faster"
        return judged.model_copy(update={"ratio": ratio, "why": why})

    def _compile(
        self, one: Candidate, lone: TrainingStep, judged: Judged
    ) -> tuple[_Alone | None, Judged]:
        """Compile a region in one graph, or else in several with what is between them told."""
        from torch._dynamo.utils import counters

        began = time.perf_counter()
        for broken in (False, True):
            counters.clear()
            try:
                variant = self._first(one, lone, broken)
            except Exception as failed:
                if is_out_of_memory(failed):
                    raise
                why = f"cannot be compiled: {told(failed)}"
                continue
            breaks = tuple(
                Break(why=reason.splitlines()[0][:200], times=times)
                for reason, times in Counter(counters["graph_break"]).most_common()
            )
            taken = self.compiled[one.paths[0]] = time.perf_counter() - began
            found = {"compiled": self.counting.counted, "graphs": self.counting.graphs}
            judged = judged.model_copy(update={**found, "breaks": breaks, "compile_s": taken})
            if not self.counting.graphs:
                why = "PyTorch's compiler takes nothing of it"
                return None, judged.model_copy(update={"why": why, "compiled": None})
            return variant, judged
        return None, judged.model_copy(update={"why": why})

    def _first(self, one: Candidate, lone: TrainingStep, broken: bool) -> _Alone:
        """Run a region compiled for the first time, and count what it is compiled to."""
        training = self.step.loss is not None
        for _ in range(2):
            self.counting.reset()
            shapes = self.shapes[one.paths[0]] = tuple(tuple(x.shape) for x in one.inputs)
            region = Region(
                one.module, shapes, training=training, broken=broken, backend=self.counting
            )
            variant = _Alone(region)
            variant.on()
            try:
                answers(lone)
            finally:
                variant.off()
            if self.counting.graphs:
                break
            torch._dynamo.reset()  # it may have been found among what was compiled before
        return variant

    def fastest(self, judged: Sequence[Judged], nothing: Regions) -> tuple[Compiled | None, str]:
        """Return the faster of the sets in the whole step, and why there is none where there is none."""
        surely = [one for one in judged if one.ratio is not None and one.ratio.high < 1]
        likely = [one for one in judged if one.ratio is not None and one.ratio.value < 1]
        sets: list[Compiled] = []
        why = "nothing is measured faster compiled" if judged else _NOTHING
        for some in (surely, likely):
            paths = tuple(path for one in some for path in one.paths)
            if not some or any(paths == one.record.paths for one in sets):
                continue
            broken = tuple(path for one in some if one.breaks for path in one.paths)
            seconds = sum(self.compiled[one.paths[0]] for one in some)
            shapes = tuple(self.shapes[one.paths[0]] for one in some for _ in one.paths)
            update: dict[str, Any] = {"paths": paths, "shapes": shapes, "broken": broken}
            update["compile_s"] = round(seconds, 1)
            variant = made(self.model, nothing.model_copy(update=update), backend=self.counting)
            try:
                error = turns.difference(self.step, variant)
            except Exception as failed:
                if is_out_of_memory(failed):
                    raise
                why = f"what is faster alone does not run in the whole step: {told(failed)}"
                continue
            if error <= self.tolerance:
                sets.append(variant)
            else:
                why = f"what is faster alone differs by {error:.1e} in the whole step"
        if not sets:
            return None, why
        plain, *times = turns.in_turns(self.step, sets, self.rounds)
        values = [turns.ratio(mine, plain).value for mine in times]
        best = min(range(len(sets)), key=lambda at: values[at])
        if values[best] < 1:
            return sets[best], ""
        return None, "what is faster alone does not make the step faster"

    def once_more(self, kept: Compiled | None) -> tuple[list[float], list[float], float]:
        """Return milliseconds of the step plain and with what is kept, in turns of their own, and how far it is off."""
        if kept is None:
            (plain,) = turns.in_turns(self.step, [], self.rounds)
            return plain, plain, 0.0
        error = turns.difference(self.step, kept)
        plain, mine = turns.in_turns(self.step, [kept], self.rounds)
        return plain, mine, error

    def work(self, kept: Compiled | None, judged: Sequence[Judged]) -> tuple[Work, Work]:
        """Return what the step takes plain and with what is kept: kernels, bytes (see ``BYTES``), measured peaks."""
        counted = turns.work(self.step, _Nothing())
        plain = Work(counted.operators, counted.moved_bytes, measured_peak(self.step, follow=False))
        if kept is None:
            return plain, plain
        kept.on()
        try:
            peak_bytes = measured_peak(self.step, follow=False)
        finally:
            kept.off()
        kernels, moved = plain.operators, plain.moved_bytes
        for one in judged:
            if one.kept and one.compiled is not None:
                kernels += len(one.paths) * (one.compiled.kernels - one.plain.kernels)
                moved += len(one.paths) * (one.compiled.moved_bytes - one.plain.moved_bytes)
        return plain, Work(kernels, moved, peak_bytes)


_NOTHING = "no component has element-wise work in a row that a compiler could fuse"


class _Nothing:
    """No change at all."""

    def on(self) -> None:
        """Leave it."""

    def off(self) -> None:
        """Leave it."""


class _Alone:
    """One region, on or off."""

    def __init__(self, region: Region) -> None:
        self.region = region

    def on(self) -> None:
        self.region.module.__dict__["forward"] = self.region

    def off(self) -> None:
        self.region.module.__dict__.pop("forward", None)


def _later(one: Candidate, most: int) -> NotTried:
    why = f"was not tried: the {most} that come before it promise more"
    return NotTried(name=one.name, paths=tuple(one.paths), why=why)


def _untried(one: Candidate, why: str) -> Judged:
    return Judged(
        name=one.name,
        paths=tuple(one.paths),
        why=why,
        plain=one.plain,
        chained_bytes=one.chained_bytes,
        saved_bytes=one.saved_bytes,
    )


def _verdict(one: Judged, chosen: Regions) -> Judged:
    """Say of a region whether it is kept."""
    if one.paths[0] not in chosen.paths:
        return one
    surely = one.ratio is not None and one.ratio.high < 1
    why = one.why if surely else "is faster with the others"
    return one.model_copy(update={"kept": True, "why": why})
