"""Memory: what one training step holds, what less of it costs in time, and the plan for a budget."""

import streamlit as st

from hybridlab.ui.arrive import arrive
from hybridlab.ui.design.totals import ready
from hybridlab.ui.memory.follow import earlier, opened_run
from hybridlab.ui.memory.look import look
from hybridlab.ui.memory.work import design_form


def new_plan() -> None:
    """Arrange what can be planned, what was measured before, and the step's memory."""
    st.title("Memory", anchor=False)
    left, right = st.columns([2, 1], gap="medium")
    with left, st.container(border=True):
        work = design_form()
    with right, st.container(border=True):
        earlier()
    if work is not None:
        arrive(work.key)
        look(work)


if ready():
    if run_id := st.query_params.get("run", ""):
        if (work := opened_run(run_id)) is not None:
            look(work)
    else:
        new_plan()
