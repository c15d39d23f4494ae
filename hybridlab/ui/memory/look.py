"""Everything about one step's memory: figures, budget, the linked views, the plan, and what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.record import Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.memory.answered import answered
from hybridlab.ui.memory.buckets import buckets_section
from hybridlab.ui.memory.budget import budget, take
from hybridlab.ui.memory.caches import caches_section
from hybridlab.ui.memory.compiled import compiled_points, compiled_section
from hybridlab.ui.memory.fit import fit_section
from hybridlab.ui.memory.fusion import fusion_section
from hybridlab.ui.memory.measured import Measured, last_measured, measured_plans
from hybridlab.ui.memory.offload import offload_choice, offload_of
from hybridlab.ui.memory.plan import plan_section
from hybridlab.ui.memory.precision import precision_section
from hybridlab.ui.memory.regions import regions_section
from hybridlab.ui.memory.timeline import timeline_section
from hybridlab.ui.memory.trained import planned_step
from hybridlab.ui.memory.tuning import tuning_section
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure, widget_key
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_bytes, format_seconds
from hybridlab.views.trade_off import trade_off_info, trade_off_plot

_PATIENCE_S = 0.3
_EVERY_S = 0.2
_CURVE = "trade-off"
MIB = 2**20


def look(work: Work) -> None:
    """Show a step's memory and its plans; what is wrong with the step is told instead."""
    with shell.told():
        after = last_measured()
        planned = planned_step(work)
        doing = "Tracing one step and solving it for every budget"
        found = answered(partial(_asked, planned, after), doing, _PATIENCE_S, _EVERY_S)
        if found is not None:
            _drawn(planned, TradeOff.read(found), after)
            _beside(work)


def _asked(work: Work, after: str, wait_s: float) -> Answer | None:
    owner = f"{state.session_name()}.memory"
    return predictions.trade_off(
        work.text, work.settings, after, owner, wait_s, offload=offload_of(work)
    )


def _drawn(work: Work, found: TradeOff, after: str) -> None:
    """Show the step that is planned, and its plan."""
    try:
        measured = measured_plans(found, work.settings)
    except HybridLabError as error:
        shell.problems(error.problems)
        measured = []
    places = st.container()
    asked, plan = budget(work, found)
    budget_bytes = asked.bytes_of(found.plain.predicted.peak_bytes)
    with places:
        _headline(found, plan, measured, work.run is not None and work.run.state.active)
    left, right = st.columns(2, gap="medium")
    with left:
        _curve(work, found, plan, budget_bytes, measured)
    with right:
        timeline_section(work, found, plan, after, budget_bytes)
    plan_section(work, plan, found)
    offload_choice(work, found)
    fit_section(work)


def _beside(work: Work) -> None:
    """Show what else can be measured, of the step as it is designed."""
    compiled_section(work)
    fusion_section(work)
    regions_section(work)
    tuning_section(work)
    precision_section(work)
    caches_section(work)
    buckets_section(work)


def _headline(found: TradeOff, plan: Plan, measured: Sequence[Measured], under_way: bool) -> None:
    """Show the step as it is, with the plan, and what was measured of that plan, or of the newest one."""
    plain = found.plain.predicted
    columns = st.columns(4)
    columns[0].metric(
        "As it is, predicted",
        format_bytes(plain.peak_bytes),
        f"{format_seconds(plain.step_ms / 1e3)} a step",
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="Weights, gradients, optimiser state, batch and activations at the worst moment of a step.",
    )
    columns[1].metric(
        "Your plan, predicted",
        format_bytes(plan.predicted.peak_bytes),
        _against(
            plan.predicted.peak_bytes, plain.peak_bytes, plan.predicted.step_ms, plain.step_ms
        ),
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="The fastest plan within the budget; gradients "
        + ("stay the same, bit for bit." if plan.exact else "change a little: bfloat16 is lossy."),
    )
    mine = next((one for one in measured if _does(one.plan) == _does(plan)), None)
    if mine is None:
        text = "not yet" if not measured else "not this one"
        said = "a plan is being measured" if under_way else "apply and measure"
        for column, name in ((columns[2], "Peak, measured"), (columns[3], "Step, measured")):
            column.metric(name, text, said, delta_color="off", delta_arrow="off", border=True)
        return
    figures, promised, plain_ms = mine.plan.measured, mine.plan.predicted, mine.plain.step_ms
    assert figures is not None
    columns[2].metric(
        "Peak, measured",
        format_bytes(figures.peak_bytes),
        f"predicted is {_off(promised.peak_bytes, figures.peak_bytes)} off; "
        f"as it is {format_bytes(mine.plain.peak_bytes)}",
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="By the profiler's memory events, in a process of its own.",
    )
    columns[3].metric(
        "Step, measured",
        format_seconds(figures.step_ms / 1e3),
        f"{_more(figures.step_ms, plain_ms)} than as it is ({format_seconds(plain_ms / 1e3)})"
        + (", others ran" if mine.beside else ""),
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="Median of steps with the plan, in turn with steps as they are, on one thread. Predicted: "
        f"{format_seconds(promised.step_ms / 1e3)}, {_off(promised.step_ms, figures.step_ms)} off."
        + (
            f" {mine.beside} other runs were under way, so times are longer than alone."
            if mine.beside
            else ""
        ),
    )


def _does(plan: Plan) -> tuple[object, ...]:
    return plan.recompute, plan.offload, plan.offload_as


def _against(peak: int, plain_peak: int, ms: float, plain_ms: float) -> str:
    if peak >= plain_peak:
        return "the same as it is"
    return f"{100 * (1 - peak / plain_peak):.0f} % less, {_more(ms, plain_ms)}"


def _more(ms: float, plain_ms: float) -> str:
    change = 100 * (ms / plain_ms - 1)
    return f"{abs(change):.1f} % {'slower' if change >= 0 else 'faster'}"


def _off(predicted: float, measured: float) -> str:
    return f"{round(100 * (predicted / measured - 1), 2) + 0.0:+.2f} %"


def _curve(
    work: Work, found: TradeOff, plan: Plan, budget_bytes: int, measured: Sequence[Measured]
) -> None:
    """Show the curve; a click on a point takes its peak as the budget."""
    plain = [
        one.plan.model_copy(update={"recompute": (), "offload": (), "measured": one.plain})
        for one in measured[:1]
    ]
    info = trade_off_info(
        found, plan, budget_bytes, [*(one.plan for one in measured), *plain], compiled_points(work)
    )
    key = widget_key(work.opened, _CURVE)

    def clicked() -> None:
        points = st.session_state[key].get("selection", {}).get("points", [])
        if points:
            take(work, f"{round(float(points[0]['x']) * MIB)} B")

    st.markdown("**What less memory costs**")
    figure(
        work.opened,
        _CURVE,
        "Peak memory of a step against its time",
        trade_off_plot(info),
        info.table(),
        on_select=clicked,
    )
