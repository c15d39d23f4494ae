"""All runs: find, open, compare, resume, download and delete them."""

import streamlit as st

from hybridlab.ui import shell, state
from hybridlab.ui.runs.compare import compare
from hybridlab.ui.runs.one import one
from hybridlab.ui.runs.table import table

if wanted := st.query_params.get("compare"):
    state.put("selected_runs", wanted.split(",")[:8])
    del st.query_params["compare"]

st.title("Runs", anchor=False)
shell.problems(state.keep("runs_notice", []))
state.put("runs_notice", [])
with shell.told():
    chosen = table()
    if len(chosen) == 1:
        one(chosen[0])
    elif chosen:
        compare(chosen)
