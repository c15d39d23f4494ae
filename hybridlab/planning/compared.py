"""A step compiled by PyTorch with its own memory budget, measured: what pages and scripts read. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybridlab.errors import Problem, RunError
from hybridlab.planning.record import Figures

SHARES = (1.0, 0.75, 0.5, 0.25)
"""Budgets that are tried where none are named: 1 keeps what PyTorch's compiler keeps by itself."""
SEARCH = 20
"""The search for plans is so many of a comparison's parts."""


def doing(done: int, parts: int, *, budgets: int = len(SHARES)) -> str:
    """Say what a comparison is at, of whose parts so many are done."""
    planned = done - 1 - budgets - SEARCH
    if not done:
        return "Timing the step as it is, not compiled"
    if done <= budgets:
        return f"Compiling and timing the step as a whole, budget {done} of {budgets}"
    if planned < 0:
        percent = 100 * (planned + SEARCH) // SEARCH
        return f"Compiling and timing components, alone and in a row, to find plans: {percent} %"
    return f"Measuring plans, {planned + 1} of {parts - 1 - budgets - SEARCH}"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CompiledPoint(_Frozen):
    """A step compiled with a share of its activation memory as budget, ``activation_memory_budget`` in PyTorch.

    ``measured`` is None where ``why`` says why there are no figures. ``graphs`` is how many pieces the compiler cut
    the step into, ``compile_s`` the seconds until its first gradients, and ``difference`` is how far those are from
    the plain step's, as a share of their norm.
    """

    share: float = Field(ge=0, le=1)
    measured: Figures | None = None
    graphs: int = 0
    compile_s: float = 0.0
    difference: float = 0.0
    why: str = ""

    @property
    def told(self) -> str:
        """What it is, in words."""
        pieces = f" in {self.graphs} graphs" if self.graphs > 1 else ""
        return f"compiled{pieces}, budget {self.share:g}"


class PlannedPoint(_Frozen):
    """A plan of a step whose components are compiled one by one, with PyTorch's budget within each, or as a whole.

    ``spans`` are the first and last places of runs that are computed again, ``shares`` the budgets by place, None where
    one is not compiled; ``stretches`` are places in a row that are compiled together. A plan that compiles the step as
    a whole has its budget in ``whole``, and neither of them. What is ``predicted`` comes from components that were
    measured alone, or from the whole step; ``measured`` is None where ``why`` says why. The rest is as of
    ``CompiledPoint``.
    """

    spans: tuple[tuple[int, int], ...] = ()
    shares: tuple[float | None, ...] = ()
    stretches: tuple[tuple[int, int], ...] = ()
    whole: float | None = Field(default=None, ge=0, le=1)
    predicted: Figures
    measured: Figures | None = None
    graphs: int = 0
    compile_s: float = 0.0
    difference: float = 0.0
    why: str = ""

    @property
    def told(self) -> str:
        """What it is, in words."""
        if self.whole is not None:
            return f"compiled as a whole, budget {self.whole:g}"
        again = sum(last - first + 1 for first, last in self.spans)
        less = sum(share is not None and share < 1 for share in self.shares)
        said = f"{less} of {len(self.shares)} components below budget 1"
        said += f", {again} computed again" if again else ""
        apart = len(self.shares) - sum(last - first for first, last in self.stretches)
        pieces = "1 piece" if apart == 1 else f"{apart} pieces"
        return f"{said}, compiled in {pieces}" if self.stretches else said


class Compared(_Frozen):
    """Compiled steps beside the plain one, which is not compiled; each was measured in a process of its own.

    ``planned`` are plans of the compiled step, and ``not_planned`` says why there are none.
    """

    version: Literal[1] = 1
    plain: Figures
    points: tuple[CompiledPoint, ...]
    planned: tuple[PlannedPoint, ...] = ()
    not_planned: str = ""
    torch: str = ""

    @property
    def found(self) -> tuple[CompiledPoint, ...]:
        """The points that have figures."""
        return tuple(point for point in self.points if point.measured is not None)

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
            raise RunError(Problem(where, "is not of compiled steps")) from None
