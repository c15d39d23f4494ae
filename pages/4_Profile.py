"""Profiles: what every component of a step takes, predicted and measured, and what a trace says."""

import streamlit as st

from hybridlab.ui.design.totals import ready
from hybridlab.ui.profile.follow import opened_run
from hybridlab.ui.profile.look import look
from hybridlab.ui.profile.start import design_form, earlier
from hybridlab.ui.profile.trace_open import ADDRESS, head, opened, start


def new_profile() -> None:
    """Arrange what can be profiled, what was profiled before, and what can be read from a file."""
    st.title("Profile", anchor=False)
    left, right = st.columns([1.2, 1], gap="medium")
    with left, st.container(border=True):
        design_form()
    with right:
        with st.container(border=True):
            earlier()
        start()


if ready():
    if run_id := st.query_params.get("run", ""):
        if (found := opened_run(run_id)) is not None:
            look(found)
    elif trace_id := st.query_params.get(ADDRESS, ""):
        head(trace_id)
        if (trace := opened(trace_id)) is not None:
            look(trace)
    else:
        new_profile()
