"""Components in another number format, one by one: how far they are from float32, what they take, and sets of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import Component
from hybridlab.planning import turns
from hybridlab.planning.component_alone import alone, inputs_read
from hybridlab.planning.precision import judge
from hybridlab.planning.precision.apply import Mixed, odd
from hybridlab.planning.precision.judge import Answer, Errors, turned_on
from hybridlab.planning.precision.record import Format, Precisions
from hybridlab.profiling.medians import Median
from hybridlab.trace.step import Loss, TrainingStep


@dataclass(frozen=True)
class Judged:
    """A component in the other format: its errors, times and bytes, and whether it is kept and why.

    Errors are relative, against float32: of its own output, and of the whole's loss and gradients (or output) where it
    alone is in that format. ``ratio`` is its time alone over that in the step's format; bytes are those kept of it.
    """

    component: str
    use: str
    format: Format
    kept: bool = False
    why: str = ""
    output_error: float | None = None
    loss_error: float | None = None
    error: float | None = None
    plain_saved_bytes: int | None = None
    saved_bytes: int | None = None
    ratio: Median | None = None


@dataclass(eq=False)
class Case:
    """A component, what it read in its place, and what was found of it."""

    component: Component
    inputs: tuple[Tensor, ...]
    mixed: Mixed
    judged: Judged

    @property
    def key(self) -> str:
        """What its time depends on: parameters and sizes."""
        params = self.component.params.model_dump_json()
        sizes = " ".join(f"{tuple(x.shape)} {x.dtype}" for x in self.inputs)
        return f"{self.component.info.name} {params} {sizes}"

    def out(self, why: str) -> None:
        """Say why it does not compute in the format."""
        self.judged = replace(self.judged, why=why)

    @property
    def right(self) -> bool:
        """Whether it may compute in the format."""
        return not self.judged.why


def cases_of(
    step: TrainingStep, model: GraphModel, nothing: Precisions, name: Format
) -> list[Case]:
    """Return every component that runs, with what it reads, and a word on those that are out at once."""
    bodies = {path: slot.body for path, slot in model.slots()}
    read = inputs_read(step, bodies)
    cases = []
    for path, inputs in read.items():
        component = bodies[path]
        judged = Judged(path, component.info.name, name)
        why = odd(component)
        formats = {} if why else {path: name}
        mixed = Mixed(model, nothing.model_copy(update={"formats": formats}))
        cases.append(Case(component, inputs, mixed, replace(judged, why=why)))
    return cases


@dataclass
class Limits:
    """The step in float32, and how far others may be from it."""

    step: TrainingStep
    loss: Loss
    exact: Answer
    allowed: Errors
    nothing: Precisions

    def errors(self, mixed: Mixed) -> Errors:
        """Run the whole with some formats on."""
        with turned_on(mixed):
            return judge.errors(self.exact, judge.answer(self.step, self.loss))

    def together(self, some: Sequence[Case]) -> Precisions:
        """Return the formats of some components."""
        formats = {one.judged.component: one.judged.format for one in some}
        return self.nothing.model_copy(update={"formats": formats})

    def largest(self, some: Sequence[Case]) -> list[Case]:
        """Return as many as are within the tolerance together, those that err least, in running order."""
        model = self.step.model
        assert isinstance(model, GraphModel)
        ordered = sorted(some, key=self._share)
        low, high = 0, len(ordered)
        while low < high:
            every = (low, high) == (0, len(ordered))
            middle = high if every else (low + high + 1) // 2
            if self.errors(Mixed(model, self.together(ordered[:middle]))).within(self.allowed):
                low = middle
            else:
                high = middle - 1
        kept = ordered[:low]
        return [one for one in some if one in kept]

    def _share(self, one: Case) -> float:
        """Return how much of what is allowed a component takes up alone."""
        loss, values = one.judged.loss_error or 0.0, one.judged.error or 0.0
        return max(loss / self.allowed.loss, values / self.allowed.values)


def compare(one: Case, limits: Limits) -> None:
    """Run a component in the other format, alone and in the whole; note its errors and bytes, and why it is out."""
    step, judged = limits.step, one.judged
    itself = alone(one.component, one.inputs, step)
    exact = judge.output_of(judge.in_float32(itself))
    plain = judge.output_of(itself)
    try:
        with turned_on(one.mixed):
            other = judge.output_of(itself)
            numbers = judge.gradients_are_numbers(itself)
            whole = limits.errors(one.mixed)
    except (RuntimeError, TypeError, NotImplementedError) as failed:
        said = (str(failed).splitlines() or [""])[0][:80]
        one.out(f"does not run in {judged.format}: {said}")
        return
    bytes_before, bytes_after = plain.saved_bytes, other.saved_bytes
    one.judged = replace(
        judged,
        output_error=_finite(judge.apart(exact.values, other.values)),
        loss_error=_finite(whole.loss),
        error=_finite(whole.values),
        plain_saved_bytes=bytes_before if limits.nothing.training else None,
        saved_bytes=bytes_after if limits.nothing.training else None,
    )
    one.out(_refused(one.judged, exact, plain, other, whole, limits, numbers=numbers))


def _refused(
    judged: Judged,
    exact: judge.Output,
    plain: judge.Output,
    other: judge.Output,
    whole: Errors,
    limits: Limits,
    *,
    numbers: bool,
) -> str:
    """Say why a component does not compute in the other format; nothing where it may."""
    name = judged.format
    lost = int((exact.values.isfinite() & ~other.values.isfinite()).sum())
    top = torch.finfo(torch.float16).max
    if lost:
        return f"overflows in {name}: {lost:,} of its outputs are no numbers"
    if not numbers:
        return f"overflows in {name}: not all of its gradients are numbers"
    if name == "float16" and other.largest > top / judge.ROOM:
        near = "overflow" if math.isinf(other.largest) else f"come to {other.largest:,.0f}"
        return f"is unsafe in float16: its products {near}, and {top:,.0f} is the largest number"
    if other.saved_bytes == plain.saved_bytes and torch.equal(other.values, plain.values):
        return f"has nothing that {name} changes"
    if not whole.loss <= limits.allowed.loss:
        return f"changes the loss by {whole.loss:.1e}, more than {limits.allowed.loss:.0e}"
    if not whole.values <= limits.allowed.values:
        what = "gradients" if limits.nothing.training else "the output"
        return f"changes {what} by {whole.values:.1e}, more than {limits.allowed.values:.0e}"
    return ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def time_alone(step: TrainingStep, cases: Sequence[Case], rounds: int) -> None:
    """Time each component alone in both formats, those alike once."""
    known: dict[str, Median] = {}
    for one in cases:
        if one.key not in known:
            itself = alone(one.component, one.inputs, step)
            plain, mine = turns.in_turns(itself, [one.mixed], rounds)
            known[one.key] = turns.ratio(mine, plain)
        one.judged = replace(one.judged, ratio=known[one.key])


def fastest(limits: Limits, right: Sequence[Case], rounds: int) -> list[Case]:
    """Return the set within the tolerance that is fastest together; none where none is faster by the median."""
    model = limits.step.model
    assert isinstance(model, GraphModel)
    ratios = [one.judged.ratio for one in right if one.judged.ratio is not None]
    sets: list[list[Case]] = []
    for some in turns.sets(list(right), ratios):
        kept = limits.largest(some)
        if kept and kept not in sets:
            sets.append(kept)
    variants = [Mixed(model, limits.together(some)) for some in sets]
    best = turns.fastest(limits.step, variants, rounds)
    return [] if best is None else sets[best]


def smallest(limits: Limits, right: Sequence[Case]) -> list[Case]:
    """Return the largest set within the tolerance of those that keep less for backward."""
    less = [
        one for one in right if (one.judged.saved_bytes or 0) < (one.judged.plain_saved_bytes or 0)
    ]
    return limits.largest(less) if less else []
