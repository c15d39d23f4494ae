"""Measures what could be fused against the model as it is, in turns, and keeps what is faster on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, RunError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.chosen import Chosen
from hybridlab.planning.fusion.apply import Fused
from hybridlab.planning.fusion.find import Candidate, Refused, find, together
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.turns import ROUNDS, Work
from hybridlab.profiling.medians import Median, median
from hybridlab.trace.step import TrainingStep


@dataclass(frozen=True)
class Judged:
    """A candidate: whether it is kept and why, its difference, and its time over that of the model as it is."""

    name: str
    places: int
    kept: bool
    why: str
    error: float
    ratio: Median | None = None


@dataclass(frozen=True, kw_only=True)
class FusionReport(Chosen):
    """What fused and what did not; ``fusion`` is empty where nothing is faster."""

    fusion: Fusion
    judged: tuple[Judged, ...]
    refused: tuple[Refused, ...]
    fused: Work
    fused_ms: Median

    @property
    def choice(self) -> Fusion:
        """What fused."""
        return self.fusion


def choose_fusion(
    step: TrainingStep,
    *,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> FusionReport:
    """Find what can be fused in a step's model, and keep what is as right and measured faster; the model is left plain.

    A step without a loss is inference, where the model is put in evaluation mode. Of a training step the weights move
    meanwhile as in training. Each candidate is timed alone, turn by turn with the plain model, and so are three sets:
    those that are surely faster alone, those that are faster by the median, and all, since what saves a call here and
    there shows only where much of it comes together. The fastest set is kept where in further turns, which had no part
    in choosing it, the interval of its time over the plain one lies below one. ``on_part`` hears before each part how
    many of how many are done; what it raises ends the measurement.

    Raises:
        RunError: the model is not built from an architecture, or is fused already.
    """
    model, training = step.model, step.loss is not None
    if not isinstance(model, GraphModel):
        raise RunError(Problem("model", "is not built from an architecture"))
    model.train(training)
    others = Others()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_part(0, 4)
        found = find(model, step.inputs, training=training)
        tolerance = turns.tolerance(model)
        right, judged = _verified(step, found.candidates, tolerance)
        on_part(1, 4)
        nothing = Fusion(fingerprint=model.architecture.fingerprint, training=training)
        times = turns.in_turns(step, [Fused(model, one.fusion) for one in right], rounds)
        ratios = {
            one.name: turns.ratio(mine, times[0])
            for one, mine in zip(right, times[1:], strict=True)
        }
        kept = _fastest_set(step, right, ratios, rounds)
        judged = [_timed(one, ratios.get(one.name)) for one in judged]
        on_part(2, 4)
        chosen = together([one.fusion for one in kept]) if kept else nothing
        fused = Fused(model, chosen)
        error = turns.difference(step, fused) if kept else 0.0
        plain_times, fused_times = turns.in_turns(step, [fused], rounds)
        ratio = turns.ratio(fused_times, plain_times)
        why = "nothing that can be fused is measured faster" if found.candidates else _NOTHING
        if kept or any(one.high < 1 for one in ratios.values()):
            good = bool(kept) and ratio.high < 1 and error <= tolerance
            why = "is faster" if good else "what seemed faster is not measured faster together"
            if not good:
                kept, chosen, fused = [], nothing, Fused(model, nothing)
        judged = [_verdict(one, {candidate.name for candidate in kept}) for one in judged]
        on_part(3, 4)
        plain_work, fused_work = turns.work(step, Fused(model, nothing)), turns.work(step, fused)
    on_part(4, 4)
    return FusionReport(
        fusion=chosen,
        why=why,
        judged=tuple(judged),
        refused=tuple(found.refused),
        error=error,
        tolerance=tolerance,
        plain=plain_work,
        fused=fused_work,
        plain_ms=median(plain_times),
        fused_ms=median(fused_times),
        ratio=ratio,
        others_cores=others.cores(),
    )


_NOTHING = "no linear maps read one tensor, and no norm is read by linear maps alone"


def _timed(one: Judged, ratio: Median | None) -> Judged:
    if ratio is None:
        return one
    why = "is faster" if ratio.high < 1 else "is not measured faster"
    return replace(one, why=why, ratio=ratio)


def _verdict(one: Judged, kept: set[str]) -> Judged:
    """Say of a candidate that it is kept, where it is."""
    if one.name not in kept:
        return one
    why = one.why if one.ratio is not None and one.ratio.high < 1 else "is faster with the others"
    return replace(one, kept=True, why=why)


def _fastest_set(
    step: TrainingStep, right: Sequence[Candidate], ratios: Mapping[str, Median], rounds: int
) -> list[Candidate]:
    """Return the set of candidates that is fastest together; none where no set is faster by the median."""
    assert isinstance(step.model, GraphModel)
    sets = turns.sets(right, [ratios[one.name] for one in right])
    fused = [Fused(step.model, together([one.fusion for one in some])) for some in sets]
    best = turns.fastest(step, fused, rounds)
    return [] if best is None else sets[best]


def _verified(
    step: TrainingStep, candidates: Sequence[Candidate], tolerance: float
) -> tuple[list[Candidate], list[Judged]]:
    """Run each candidate once against the plain model; return those that give the same, and a word on each."""
    right, judged = [], []
    for one in candidates:
        assert isinstance(step.model, GraphModel)
        fused = Fused(step.model, one.fusion)
        try:
            error = turns.difference(step, fused)
        except (RuntimeError, TypeError) as failed:
            why = f"does not run: {(str(failed).splitlines() or [''])[0][:80]}"
            judged.append(Judged(one.name, one.places, False, why, float("nan")))
            continue
        why = ""
        if not error <= tolerance:
            why = f"differs by {error:.1e} of the largest value, more than {tolerance:.0e}"
        elif fused.wasted():
            why = "its maps did not all ask for what was computed together"
        judged.append(Judged(one.name, one.places, False, why, error))
        right += [] if why else [one]
    return right, judged
