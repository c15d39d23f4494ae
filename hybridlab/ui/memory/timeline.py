"""What is in memory over the step that the plan makes: by category, by component, and at the peak."""

from __future__ import annotations

from functools import partial

import streamlit as st

from hybridlab.hardware.meters.allocator_words import NO_ACCELERATOR
from hybridlab.planning.record import Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.runs.slots import accelerators
from hybridlab.ui import predictions, state
from hybridlab.ui.memory.answered import answered, wait_for
from hybridlab.ui.memory.offload import offload_of
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.worker_pool import Answer
from hybridlab.views.plan_timeline import contents, contents_info, timeline_info, timeline_plot
from hybridlab.views.profile_memory import peak_plot

_PATIENCE_S = 0.3
_EVERY_S = 0.5
_PICTURES = {"category": "By category", "component": "By component", "peak": "At the peak"}


def timeline_section(
    work: Work, found: TradeOff, plan: Plan, after: str, budget_bytes: int
) -> None:
    """Show one picture of the planned step's memory, as soon as it has been traced."""
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown("**Memory over one step**", width="content")
        chosen = st.segmented_control(
            "Picture of the step's memory",
            list(_PICTURES),
            default="category",
            required=True,
            format_func=lambda name: _PICTURES[name],
            label_visibility="collapsed",
            key=f"{work.key}.picture",
        )
    ask = partial(_asked, work, after, plan, "plan")
    traced = answered(ask, "Following every tensor of the step", _PATIENCE_S, _EVERY_S)
    if traced is None:
        return
    if chosen == "peak":
        figure(
            work.opened,
            "at the peak",
            "What is there at the peak",
            peak_plot(contents_info(traced)),
            contents(traced),
        )
        return
    plain = None
    if plan.does_something:
        ask = partial(_asked, work, after, found.plain, "plain")
        other = ask(_PATIENCE_S)
        plain = None if other is None or other.problems else other.value
        if other is None:
            wait_for(ask, "", _EVERY_S)
    within = budget_bytes if budget_bytes < found.plain.predicted.peak_bytes else None
    info = timeline_info(
        traced, "component" if chosen == "component" else "category", plain, within
    )
    figure(
        work.opened,
        f"timeline by {chosen}",
        "Memory over one step",
        timeline_plot(info),
        info.table(),
    )
    if not accelerators():
        st.caption(f"{NO_ACCELERATOR.sentence[:1].upper()}{NO_ACCELERATOR.sentence[1:]}.")


def _asked(work: Work, after: str, plan: Plan, whose: str, wait_s: float) -> Answer | None:
    """Ask for the step of a plan; what it is for beside its runs makes no other question."""
    asked = plan.model_copy(update={"budget": None, "measured": None}).as_dict()
    owner = f"{state.session_name()}.memory.{whose}"
    return predictions.plan_timeline(
        work.text, work.settings, after, asked, owner, wait_s, offload=offload_of(work)
    )
