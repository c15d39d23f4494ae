"""The best plans of a compiled step, exactly: what is computed again, and the budget within each component kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridlab.planning.budgets.choices import budget_choices
from hybridlab.planning.budgets.forms import BUDGETS, Forms, measure_forms
from hybridlab.planning.compiled import Backend
from hybridlab.planning.planner import span_us
from hybridlab.planning.recompute import random_state_bytes
from hybridlab.planning.solve import Curve
from hybridlab.trace.step import TrainingStep


def budget_curve(
    step: TrainingStep,
    *,
    shares: Sequence[float] = BUDGETS,
    backend: Backend = "inductor",
    on_part: Callable[[int, int], object] = lambda done, parts: None,
    stretches: bool = False,
) -> tuple[Curve, Forms]:
    """Return all plans of a step with its components compiled that no other beats, and what they are made of.

    A point's ``spans``, ``shares`` and ``stretches`` go through ``as_compiled`` to ``Recomputing`` and
    ``measure_compiled``. Each different component is
    compiled under each of the budgets; see ``measure_forms`` for the arguments.

    Raises:
        RunError: the step is not one of an architecture, or a budget is out of range.
    """
    forms = measure_forms(
        step, shares=shares, backend=backend, on_part=on_part, stretches=stretches
    )
    given = budget_choices(forms, span_us=span_us(), span_bytes=random_state_bytes())
    return Curve(given), forms
