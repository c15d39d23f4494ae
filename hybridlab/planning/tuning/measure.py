"""Measures components done in another way against their design, in turns, and keeps what is faster on this machine."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import Component
from hybridlab.errors import Problem, RunError
from hybridlab.hardware.others import BUSY_CORES, Others
from hybridlab.planning import turns
from hybridlab.planning.borders import Border, borders
from hybridlab.planning.chosen import Chosen
from hybridlab.planning.component_alone import alone, inputs_read
from hybridlab.planning.inside import copied_inside
from hybridlab.planning.layout.choose import HandOver, Laid, cheapest_layouts
from hybridlab.planning.tuning.apply import Tuned, Turned
from hybridlab.planning.tuning.knobs import KNOBS, Knob, Value, power_of_two
from hybridlab.planning.tuning.record import Tuning
from hybridlab.planning.tuning.store import Known
from hybridlab.planning.turns import ROUNDS, Work
from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.session import device_of
from hybridlab.trace.step import TrainingStep

PARTS = 3


@dataclass(frozen=True)
class Tried:
    """One way of a component: its difference, and its time over that of the design's."""

    value: Value
    error: float
    ratio: Median | None = None
    why: str = ""
    """Why it was not timed, where it was not."""


@dataclass(frozen=True)
class Judged:
    """One knob of a component at the size at which it runs in one or more places: what was tried, and what is kept."""

    component: str
    knob: str
    places: tuple[str, ...]
    designed: Value
    value: Value
    kept: bool
    why: str
    ratio: Median | None = None
    """Of what was fastest over the design, in turns that had no part in choosing it."""
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TuningReport(Chosen):
    """What other ways bring; ``tuning`` is empty where nothing is faster, ``found`` is kept for this machine."""

    tuning: Tuning
    judged: tuple[Judged, ...]
    tuned: Work
    plain_borders: tuple[Border, ...]
    tuned_borders: tuple[Border, ...]
    tuned_ms: Median
    found: Mapping[str, Known] = field(default_factory=dict)
    hand_overs: tuple[HandOver, ...] = ()
    """How each hand-over is cheapest to lie over the graph; kept where ``tuning`` names it."""

    @property
    def choice(self) -> Tuning:
        """What is done in another way."""
        return self.tuning


def choose_tuning(
    step: TrainingStep,
    *,
    rounds: int = ROUNDS,
    known: Mapping[str, Known] | None = None,
    knobs: Sequence[Knob] = KNOBS,
    hand_overs: bool = False,
    exact: bool = False,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> TuningReport:
    """Measure each component alone in other ways, in training backward too, then what was faster in the whole step.

    A step without a loss is inference, where the model is put in evaluation mode. A way is kept where it gives the
    same within the tolerance and the interval of its time over the design's, turn by turn, lies below one; the fastest
    of those is timed once more. All that are kept are then measured together in the step. The model is left as
    designed.

    Args:
        step: whose model is tuned; of a training step the weights move as in training.
        rounds: turns, fewer where they take long.
        known: what was measured before, by the component and its sizes: it is not measured again alone.
        knobs: what is tried of components.
        hand_overs: whether the layout of each hand-over is chosen too, over the whole graph, with those within.
        exact: keep only what leaves every bit of output and gradients as it is, at the sizes of this step: the order
            of sums depends on sizes and on how things lie, not on values.
        on_part: hears before each part how many of how many are done; what it raises ends the measurement.

    Raises:
        RunError: the model is not built from an architecture.
    """
    model, training = step.model, step.loss is not None
    if not isinstance(model, GraphModel):
        raise RunError(Problem("model", "is not built from an architecture"))
    model.train(training)
    others = Others()
    limit = 0.0 if exact else turns.tolerance(model)
    known = known or {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_part(0, PARTS)
        found: dict[str, Known] = {}
        judged = [
            _known(case, known[case.key])
            if case.key in known and case.can(known[case.key].value)
            else _measured(case, step, rounds, limit, found)
            for case in _cases(step, knobs, exact)
        ]
        nothing = Tuning(fingerprint=model.architecture.fingerprint, training=training)
        chosen = _chosen(nothing, judged)
        laid = cheapest_layouts(step, exact=exact) if hand_overs else Laid()
        on_part(1, PARTS)
        chosen = _with_hand_overs(step, chosen, laid, rounds, limit)
        tuned = Tuned(model, chosen)
        error = turns.difference(step, tuned) if chosen.count else 0.0
        plain_ms, tuned_ms = turns.in_turns(step, [tuned], rounds)
        ratio = turns.ratio(tuned_ms, plain_ms)
        why = "no other way is measured faster" if judged else "there is nothing to tune"
        if chosen.count:
            good = ratio.high < 1 and error <= limit
            if not error <= limit:
                why = f"all together {_differs(error, limit)}"
            else:
                why = "is faster" if good else "what was faster alone does not make the step faster"
            if not good:
                chosen, tuned = nothing, Tuned(model, nothing)
        on_part(2, PARTS)
        sides = [_counted(step, one) for one in (Tuned(model, nothing), tuned)]
    on_part(3, PARTS)
    cores = others.cores()
    return TuningReport(
        tuning=chosen,
        why=why,
        judged=tuple(judged),
        error=error,
        tolerance=limit,
        plain=sides[0][0],
        tuned=sides[1][0],
        plain_borders=sides[0][1],
        tuned_borders=sides[1][1],
        plain_ms=median(plain_ms),
        tuned_ms=median(tuned_ms),
        ratio=ratio,
        others_cores=cores,
        hand_overs=laid.hand_overs,
        found={} if cores > BUSY_CORES else found,
    )


def _with_hand_overs(
    step: TrainingStep, chosen: Tuning, laid: Laid, rounds: int, limit: float
) -> Tuning:
    """Return a tuning with what is cheapest over the graph, where that turns a hand-over and the step is faster so."""
    assert isinstance(step.model, GraphModel)
    if not laid.turned:
        return chosen
    within = {path: layout for path, layout in laid.within.items() if layout == "channels"}
    wider = chosen.model_copy(update={"layout": within, "hand_over": laid.turned})
    before, after = Tuned(step.model, chosen), Tuned(step.model, wider)
    if not turns.difference(step, after) <= limit:
        return chosen
    _, before_ms, after_ms = turns.in_turns(step, [before, after], rounds)
    return wider if turns.ratio(after_ms, before_ms).high < 1 else chosen


def _counted(step: TrainingStep, tuned: Tuned) -> tuple[Work, tuple[Border, ...]]:
    """Return what the step takes, and what it copies where."""
    work = turns.work(step, tuned)
    tuned.on()
    try:
        return work, borders(step) + copied_inside(step)
    finally:
        tuned.off()


def _chosen(nothing: Tuning, judged: list[Judged]) -> Tuning:
    kept = {
        knob.name: {
            path: one.value
            for one in judged
            if one.kept and one.knob == knob.name
            for path in one.places
        }
        for knob in KNOBS
    }
    return nothing.model_copy(update=kept)


@dataclass
class _Case:
    """A knob of a component, where that stands, and what it reads there."""

    knob: Knob
    component: Component
    inputs: tuple[Tensor, ...]
    training: bool
    within: str
    """In which other number format the step computes, if in any."""
    places: list[str]
    exact: bool = False

    @property
    def designed(self) -> Value:
        return self.knob.at(self.component)

    @property
    def key(self) -> str:
        """What time depends on: the component's parameters, sizes in powers of two, number formats, direction."""
        params = self.component.params.model_dump_json()
        batch, length, width = self.inputs[0].shape
        sizes = f"batch {power_of_two(batch)} length {power_of_two(length)} width {width}"
        what = "training" if self.training else "inference"
        kind = str(self.inputs[0].dtype).removeprefix("torch.") + self.within
        knob = f"{self.knob.name} {self.designed}"
        bits = " exact" if self.exact else ""
        return f"{self.component.info.name} {params} {sizes} {kind} {what} {knob}{bits}"

    def can(self, value: Value) -> bool:
        """Whether it can be set to a value; what is kept may be of another version, or damaged."""
        return type(value) is type(self.designed) and not self.knob.refused(self.component, value)

    @property
    def name(self) -> str:
        batch, length, width = self.inputs[0].shape
        return f"{self.component.info.name} of {batch} x {length} x {width}"


def _cases(step: TrainingStep, knobs: Sequence[Knob], exact: bool) -> list[_Case]:
    """Watch one pass and return each knob of each component once for each size at which it runs."""
    assert isinstance(step.model, GraphModel)
    bodies = {path: slot.body for path, slot in step.model.slots()}
    bodies = {path: one for path, one in bodies.items() if any(knob.has(one) for knob in knobs)}
    read = inputs_read(step, bodies)
    within = _within(step)
    seen: dict[str, _Case] = {}
    for path, inputs in read.items():
        for knob in knobs:
            if knob.has(bodies[path]) and inputs[0].dim() == 3:
                case = _Case(knob, bodies[path], inputs, step.loss is not None, within, [], exact)
                seen.setdefault(case.key, case).places.append(path)
    return list(seen.values())


def _within(step: TrainingStep) -> str:
    kind = device_of(step.model).type
    with step.around():
        if not torch.is_autocast_enabled(kind):
            return ""
        return f" in {torch.get_autocast_dtype(kind)}".replace("torch.", "")


def _known(case: _Case, known: Known) -> Judged:
    """Return what was found out before."""
    faster = known.high < 1 and known.value != case.designed
    why = "was measured faster before" if faster else "nothing was measured faster before"
    ratio = Median(known.ratio, known.low, known.high, 0, 0.95) if faster else None
    value = known.value if faster else case.designed
    return Judged(
        *(case.name, case.knob.name, tuple(case.places), case.designed, value, faster, why, ratio)
    )


def _measured(
    case: _Case, step: TrainingStep, rounds: int, limit: float, found: dict[str, Known]
) -> Judged:
    """Measure a component's other ways alone, and note what was found."""
    itself = alone(case.component, case.inputs, step)
    tried: list[Tried] = []
    variants: list[Turned] = []
    for value in case.knob.others(case.component, case.inputs[0]):
        variant = Turned(case.knob, [case.component], value)
        error, why = _verified(itself, variant, limit)
        tried.append(Tried(value, error, None, why))
        variants += [] if why else [variant]
    designed = case.designed
    made = (case.name, case.knob.name, tuple(case.places), designed)
    if not variants:
        why = "no other way gives the same" if tried else "there is no other way at its length"
        return Judged(*made, designed, False, why, None, tuple(tried))
    plain, *times = turns.in_turns(itself, variants, rounds)
    ratios = {
        one.value: turns.ratio(mine, plain) for one, mine in zip(variants, times, strict=True)
    }
    tried = [Tried(one.value, one.error, ratios.get(one.value), one.why) for one in tried]
    best = min(variants, key=lambda one: ratios[one.value].value)
    ratio = ratios[best.value]
    if ratio.high < 1:  # the smallest of several is too good by luck: it is timed anew
        plain, mine = turns.in_turns(itself, [best], rounds)
        ratio = turns.ratio(mine, plain)
    faster = ratio.high < 1
    now = time.time()
    found[case.key] = (
        Known(best.value, ratio.value, ratio.low, ratio.high, now)
        if faster
        else Known(designed, 1.0, 1.0, 1.0, now)
    )
    why = "is faster" if faster else "no other way is measured faster"
    value = best.value if faster else designed
    return Judged(*made, value, faster, why, ratio, tuple(tried))


def _verified(itself: TrainingStep, variant: Turned, limit: float) -> tuple[float, str]:
    """Return how far a variant is from the plain one, and why it is out, where it is."""
    try:
        error = turns.difference(itself, variant)
    except RuntimeError as failed:
        return float("nan"), f"does not run: {(str(failed).splitlines() or [''])[0][:80]}"
    if not error <= limit:
        return error, _differs(error, limit)
    return error, ""


def _differs(error: float, limit: float) -> str:
    """Say in words that something differs by more than it may."""
    much = f"{error:.1e} of the largest value"
    return (
        f"differs by {much}, more than {limit:.0e}" if limit else f"changes bits, by up to {much}"
    )
