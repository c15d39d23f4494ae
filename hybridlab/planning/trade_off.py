"""Peak against time for every plan of one step that no other beats, as plain data for pages. Free of torch."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.units import format_bytes

Spans = tuple[tuple[int, int], ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(_Frozen):
    """One component of the step, as often as it runs: what it takes to run it, to run it again, and to keep it.

    ``saved_bytes`` are what it is the first to keep for backward; the peaks are the most that stands while it runs,
    beside what came from before it. ``kept_because`` says why it cannot be computed again; empty where it can.
    """

    name: str
    forward_ms: float
    again_ms: float
    saved_bytes: int
    forward_peak_bytes: int
    backward_peak_bytes: int
    kept_because: str = ""


class Uniform(_Frozen):
    """A plan by count alone, such as every second component, by the planner's own account."""

    name: str
    spans: Spans
    predicted: Figures


class TradeOff(_Frozen):
    """The curve of one step: plans in rising order of their peak and falling order of their time, all predicted.

    ``plain`` is the step as it is, with nothing computed again; the last point of the curve does the same. ``holder``
    says what holds the smallest peak.
    """

    plain: Plan
    parts: tuple[Part, ...]
    peak_bytes: tuple[int, ...]
    step_ms: tuple[float, ...]
    spans: tuple[Spans, ...]
    away: tuple[tuple[int, ...], ...] = ()
    """What each point offloads, by place; empty where nothing may be."""
    offload_as: Literal["same", "bfloat16"] = "same"
    uniform: tuple[Uniform, ...]
    holder: str
    rests_on: str = ""
    """What times rest on, in the words of a sentence that begins with "Times rest on"."""

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.peak_bytes)

    @property
    def least_bytes(self) -> int:
        """The smallest peak that any plan reaches."""
        return self.peak_bytes[0]

    def plan(self, index: int) -> Plan:
        """Return a point of the curve as a plan."""
        return self.plan_of(
            self.spans[index],
            Figures(peak_bytes=self.peak_bytes[index], step_ms=self.step_ms[index]),
            self.away[index] if self.away else (),
        )

    def plan_of(self, spans: Spans, predicted: Figures, away: tuple[int, ...] = ()) -> Plan:
        """Write runs, what is offloaded, and what they are predicted to take, as a plan of this step."""
        names = self.plain.components
        runs = tuple(names[first : last + 1] for first, last in spans)
        gone = tuple(names[place] for place in away)
        return self.plain.model_copy(
            update={
                "recompute": runs,
                "offload": gone,
                "offload_as": self.offload_as if gone else "same",
                "predicted": predicted,
            }
        )

    def best(self, budget: Budget) -> Plan:
        """Return the fastest plan within a budget.

        Raises:
            SpecError: no plan is; it says the smallest peak and what holds it.
        """
        allowed = budget.bytes_of(self.plain.predicted.peak_bytes)
        place = bisect.bisect_right(self.peak_bytes, allowed) - 1
        if place < 0:
            raise SpecError(too_small(allowed, self.least_bytes, self.holder))
        return self.plan(place).model_copy(update={"budget": budget})

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` returned.

        Raises:
            RunError: it is not that.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise RunError(Problem(where, "is not of a curve of plans")) from None


def too_small(budget_bytes: int, least_bytes: int, holder: str) -> Problem:
    """Return what is wrong with a budget below what any plan needs."""
    return Problem(
        "budget",
        "is below what any plan needs",
        f"at least {format_bytes(least_bytes)} ({least_bytes} B)",
        format_bytes(budget_bytes),
        f"that much is held by {holder}; choose a larger budget, or a smaller batch",
    )
