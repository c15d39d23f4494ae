"""What was done here last."""

from __future__ import annotations

import streamlit as st

from hybridlab.runs.store import open_store
from hybridlab.ui import shell
from hybridlab.ui.runs.active import line


def recent_runs(most: int = 6) -> None:
    """List the newest runs, each with a way to it."""
    with st.container(border=True, height="stretch"):
        st.markdown("**Recent runs**")
        with shell.told():
            runs = open_store().list(limit=most)
            if not runs:
                st.caption("None yet. A training that you start appears here.")
            for run in runs:
                line(run)
            if runs and st.button("All runs", icon=":material/table_rows:"):
                shell.go(shell.RUNS)
