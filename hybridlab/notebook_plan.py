"""Less memory for a step, in a notebook: ``hl.plan("jamba_mini", "mqar", "50%", apply=True)`` and ``hl.fits``."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from hybridlab.architecture.library import architecture_of
from hybridlab.architecture.spec import Architecture
from hybridlab.notebook_progress import Bar
from hybridlab.notebook_settings import plain_settings
from hybridlab.units import format_bytes, format_seconds

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridlab.planning.fit import Axis, Fit
    from hybridlab.planning.planner import Offload
    from hybridlab.planning.record import Figures, Plan
    from hybridlab.workflows.plan import Planned

Picture = Literal["category", "component", "peak"]


@dataclass(frozen=True)
class PlannedStep:
    """The plan of a step for a budget, the curve that it is a point of, and what was measured where it was applied.

    ``hl.train(…, plan=found)`` trains with it.
    """

    found: Planned

    @property
    def plan(self) -> Plan:
        """The plan, which ``save`` writes as a file for ``hybridlab train --set plan=@FILE``."""
        return self.found.chosen

    @property
    def table(self) -> pd.DataFrame:
        """A row for each component in running order: what the plan does with it, and what it takes, predicted."""
        from hybridlab.views.plan_table import plan_table

        return plan_table(self.found.made.trade_off(), self.plan).set_index("component")

    @property
    def points(self) -> pd.DataFrame:
        """All plans that no other beats, and what was measured: peak, time, runs computed again, source."""
        rows = self.found.as_dict()["points"]
        return pd.DataFrame(
            {
                "peak_bytes": [row["peak_bytes"] for row in rows],
                "step_ms": [row["step_ms"] for row in rows],
                "runs_again": [len(row["plan"]) for row in rows],
                "source": [row["source"] for row in rows],
            }
        )

    def plot(self) -> go.Figure:
        """Return peak memory against time: all plans, those by count alone, this one, and what was measured."""
        from hybridlab.views.trade_off import trade_off_info, trade_off_plot

        plan, curve = self.plan, self.found.made.trade_off()
        measured = [plan]
        if self.found.plain_measured is not None:
            nothing = {"recompute": (), "offload": (), "measured": self.found.plain_measured}
            measured.append(plan.model_copy(update=nothing))
        info = trade_off_info(curve, plan, self._budget_bytes, measured, self.found.compared)
        return trade_off_plot(info)

    def timeline(self, by: Picture = "category") -> go.Figure:
        """Return what is in memory over the planned step, by category or component, or what its peak is made of."""
        from hybridlab.planning.timeline import timeline
        from hybridlab.views.plan_timeline import contents_info, timeline_info, timeline_plot
        from hybridlab.views.profile_memory import peak_plot

        made = self.found.made
        traced = timeline(made, self.plan)
        if by == "peak":
            return peak_plot(contents_info(traced))
        plain = timeline(made, made.points()[-1]) if self.plan.does_something else None
        return timeline_plot(timeline_info(traced, by, plain, self._budget_bytes))

    @property
    def _budget_bytes(self) -> int:
        plan = self.plan
        assert plan.budget is not None
        return plan.budget.bytes_of(plan.plain.peak_bytes)

    def as_setting(self) -> dict[str, Any]:
        """Return the plan as a training's setting has it."""
        return self.plan.as_dict()

    def __repr__(self) -> str:
        """Say in a line or two what the plan does, what it promises, and what was measured."""
        plan = self.plan
        lines = [
            f"{plan.told}: {_told(plan.predicted)} instead of {_told(plan.plain)}, predicted"
            if plan.does_something
            else f"the step stays as it is: {_told(plan.plain)}, predicted"
        ]
        if plan.measured is not None and self.found.plain_measured is not None:
            off = 100 * (plan.predicted.peak_bytes / plan.measured.peak_bytes - 1)
            plain = _told(self.found.plain_measured)
            lines.append(
                f"{_told(plan.measured)} instead of {plain}, measured; the predicted peak is {off:+.2f} % off"
            )
        return "\n".join([*lines, *filter(None, (plan.note, self.found.not_compared))])

    def _repr_html_(self) -> str:
        """Draw the network with what the plan does with each component, below what it promises."""
        from hybridlab.components.registry import catalogue
        from hybridlab.views.diagram import diagram_info
        from hybridlab.views.diagram_svg import diagram_svg
        from hybridlab.views.plan_diagram import plan_diagram

        architecture = self.found.made.architecture
        info = diagram_info(architecture, catalogue=catalogue())
        said = html.escape(repr(self)).replace("\n", "<br>")
        return f"<p>{said}</p>{diagram_svg(plan_diagram(info, architecture, self.plan))}"


@dataclass(frozen=True)
class FoundFit:
    """The largest sizes of a step that fit a memory, as it is and with plans, predicted."""

    found: Fit

    @property
    def table(self) -> pd.DataFrame:
        """A row for each size: its peak (bytes), the time of a step and of a sample (ms), components computed again."""
        from hybridlab.views.fit import fit_table

        return fit_table(self.found.as_dict())

    def plot(self) -> go.Figure:
        """Return the time of a sample over the sizes."""
        from hybridlab.views.fit import fit_info, fit_plot

        return fit_plot(fit_info(self.found.as_dict()))

    def __repr__(self) -> str:
        """Say in one line what fits."""
        found = self.found
        limit = format_bytes(found.limit_bytes)
        if found.planned is None:
            least = format_bytes(found.least_bytes)
            return f"not even {found.axis} 1 fits {limit}: it needs {least}, predicted"
        plain = f"{found.plain.size:,}" if found.plain is not None else "none"
        return f"{limit} fits {found.axis} {plain} as it is and {found.planned.size:,} with plans, predicted"


def plan(
    architecture: Architecture | str,
    task: str,
    budget: str = "50%",
    *,
    apply: bool = False,
    offload: Offload | None = None,
    compare_compiled: bool = False,
    **settings: Any,
) -> PlannedStep:
    """Find what a training step computes again in backward, so that it fits a memory budget at least time.

    Args:
        architecture: one, its name, or its file.
        task: supplies input, head, loss and batch.
        budget: most memory of a step: ``40MiB``, or ``50%`` of the plain step's peak.
        apply: also run the step with the plan and without it, in turn, and measure both.
        offload: let what components keep also leave memory meanwhile: ``same``, or ``bfloat16``, which is lossy.
        compare_compiled: also measure the step compiled with PyTorch's own memory budget, which takes minutes.
        settings: those of ``TrainSpec``, such as ``batch`` and ``precision``; the step is that of a training with them.

    Raises:
        SpecError: the architecture, the budget or a setting is wrong, or no plan is within the budget; it says the
            least, and what holds it.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    from hybridlab.planning.record import Budget
    from hybridlab.workflows.plan import plan_training

    design = architecture_of(architecture)
    asked = plain_settings({**settings, "task": task})
    wanted = Budget.parse(budget)
    found = plan_training(design, asked, wanted, apply=apply, offload=offload)
    if compare_compiled:
        from hybridlab.architecture.document import dump
        from hybridlab.errors import RunError
        from hybridlab.workflows.compiled import compare_compiled as compared

        bar = Bar("steps measured")
        try:
            found = replace(found, compared=compared(dump(design), asked, on_part=bar.part))
        except RunError as error:
            found = replace(found, not_compared=str(error))
    return PlannedStep(found)


def fits(
    architecture: Architecture | str, task: str, memory: str, *, of: Axis = "batch", **settings: Any
) -> FoundFit:
    """Find the largest batch or length whose training step fits a memory, as it is and with plans.

    ``memory`` is an amount such as ``24GiB``, or a card such as ``RTX 4090``; ``settings`` are those of ``TrainSpec``.

    Raises:
        SpecError: the architecture, the memory or a setting is wrong, or samples have one length.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    from hybridlab.workflows.plan import fit_training, memory_of

    asked = plain_settings({**settings, "task": task})
    return FoundFit(fit_training(architecture_of(architecture), asked, memory_of(memory), axis=of))


def _told(figures: Figures) -> str:
    return f"{format_bytes(figures.peak_bytes)} and {format_seconds(figures.step_ms / 1e3)}"
