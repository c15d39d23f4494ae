"""Profiles: what every component of a step takes, predicted and measured, and what a trace says."""

import streamlit as st

from hybridlab.ui.design.totals import ready
from hybridlab.ui.profile.follow import opened_run
from hybridlab.ui.profile.look import look
from hybridlab.ui.profile.start import design_form, earlier
from hybridlab.ui.profile.trace_open import ADDRESS, head, opened, start

if not ready():
    st.stop()
if run_id := st.query_params.get("run", ""):
    found = opened_run(run_id)
    if found is not None:
        look(found)
    st.stop()
if trace_id := st.query_params.get(ADDRESS, ""):
    head(trace_id)
    trace = opened(trace_id)
    if trace is not None:
        look(trace)
    st.stop()

st.title("Profile", anchor=False)
left, right = st.columns([1.2, 1], gap="medium")
with left, st.container(border=True):
    design_form()
with right:
    with st.container(border=True):
        earlier()
    start()
