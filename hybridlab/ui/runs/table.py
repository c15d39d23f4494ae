"""The table of runs, with filter, sort and selection."""

from __future__ import annotations

import hashlib
from typing import Any

import streamlit as st

from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import shell, state
from hybridlab.ui.runs.states import LOOKS, written
from hybridlab.views.runs_table import runs_info, runs_table

_MOST = 500


def table() -> list[Run]:
    """Show the runs that match the filter and return the selected ones, newest first."""
    words, states = _filter()
    ensure_supervisor()
    store = open_store()
    runs = store.list(states=states or None, text=words.strip(), limit=_MOST)
    if not runs:
        _empty(bool(words or states))
        return []
    rows = runs_info(runs, store.latest_metrics([run.id for run in runs]))
    shown = runs_table(rows, written)
    chosen: list[str] = state.keep("selected_runs", [])
    ids = [run.id for run in runs]
    key = "runs." + hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]

    def selected() -> None:
        places = st.session_state[key]["selection"]["rows"]
        state.put("selected_runs", [ids[place] for place in places if place < len(ids)])

    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        height=min(420, 40 + 36 * len(runs)),
        on_select=selected,
        selection_mode="multi-row",
        selection_default={"selection": {"rows": [ids.index(run) for run in chosen if run in ids]}},
        column_config=_columns(),
        alt="Table of runs",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{len(runs):,} run{'s' if len(runs) > 1 else ''}. "
            "Tick one to open it, two to eight to compare them; click a heading to sort."
        )
        st.button("Refresh", icon=":material/refresh:", type="tertiary")
        st.download_button(
            "Table (CSV)",
            lambda: shown.to_csv(index=False),
            "runs.csv",
            "text/csv",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )
    return [run for run in runs if run.id in state.keep("selected_runs", [])]


def _filter() -> tuple[str, list[RunState]]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(
            "Find by name or id",
            key="runs.find",
            placeholder="Find by name or id",
            label_visibility="collapsed",
            icon=":material/search:",
            max_chars=80,
            width=320,
            persist_state="session",
        )
        states = st.pills(
            "States",
            list(RunState),
            selection_mode="multi",
            key="runs.states",
            format_func=lambda item: LOOKS[item][0],
            label_visibility="collapsed",
            persist_state="session",
        )
    return words or "", list(states)


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "name": config.TextColumn("Name", width="large"),
        "state": config.TextColumn("State"),
        "task": config.TextColumn("Task"),
        "metric": config.TextColumn("Metric"),
        "value": config.NumberColumn("Value", format="%.4g"),
        "progress (%)": config.ProgressColumn(
            "Progress", format="%d %%", min_value=0, max_value=100
        ),
        "steps": config.NumberColumn("Steps", format="localized"),
        "time (s)": config.NumberColumn("Time (s)", format="%.1f"),
        "created": config.DatetimeColumn("Created", format="distance"),
        "threads": config.NumberColumn("Threads"),
        "run": config.TextColumn("Run"),
    }


def _empty(filtered: bool) -> None:
    if filtered:
        st.info("No run matches. Change the words or the states.", icon=":material/filter_alt_off:")
        return
    with st.container(border=True):
        st.markdown("**No runs yet**")
        st.caption(
            "A run is one training: its settings, its curves, its weights. Start one and it appears here."
        )
        with st.container(horizontal=True):
            if st.button("Set up a training", type="primary", icon=":material/model_training:"):
                shell.go(shell.TRAIN)
            if st.button("See why hybrids", icon=":material/home:"):
                shell.go(shell.HOME)
