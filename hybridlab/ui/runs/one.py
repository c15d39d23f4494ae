"""What can be done with one selected run."""

from __future__ import annotations

import io

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs import launcher
from hybridlab.runs.folder import archive, read_log
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.ui import shell, state
from hybridlab.ui.runs.active import open_run
from hybridlab.ui.runs.states import badge


def one(run: Run) -> None:
    """Show a run's actions, its settings and its log."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{shell.escaped(run.name)}**", width="stretch")
            badge(run.state)
        if run.error:
            st.error(shell.escaped(run.error.partition("\n")[0]), icon=":material/error:")
        _actions(run)
        with st.expander("Settings and result", icon=":material/tune:"):
            left, right = st.columns(2)
            left.json({"training": run.spec.get("training"), "threads": run.threads}, expanded=2)
            right.json(dict(run.result or {}), expanded=2)
        log(run.id)


def log(run_id: str) -> None:
    """Show the end of a run's log, folded away."""
    with st.expander("Log", icon=":material/terminal:"):
        text = read_log(run_id, after=-(1 << 16)).text
        if text.strip():
            st.code(text, language=None, height=320)
        else:
            st.caption("Nothing was logged yet.")


def _actions(run: Run) -> None:
    with st.container(horizontal=True):
        if st.button("Open", icon=":material/open_in_full:", type="primary", key="run.open"):
            open_run(run)
        if run.state.active:
            st.button(
                "Cancel",
                icon=":material/stop:",
                on_click=_do,
                args=("cancel", run.id),
                key="run.cancel",
            )
        if run.state.resumable:
            st.button(
                "Resume",
                icon=":material/play_arrow:",
                on_click=_do,
                args=("resume", run.id),
                key="run.resume",
            )
        st.download_button(
            "Folder (zip)",
            lambda: _zip(run.id),
            f"{run.id}.zip",
            "application/zip",
            icon=":material/folder_zip:",
            on_click="ignore",
            help="Record, settings, architecture, metrics, log and weights.",
        )
        st.download_button(
            "Metrics (CSV)",
            lambda: metrics_csv(run.id),
            f"{run.id}-metrics.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        if st.button(
            "Delete", icon=":material/delete:", disabled=run.state.active, key="run.delete"
        ):
            confirm([run])


def _do(action: str, run_id: str) -> None:
    try:
        (launcher.cancel if action == "cancel" else launcher.resume)(run_id)
    except HybridLabError as error:
        state.put("runs_notice", list(error.problems))


def _zip(run_id: str) -> bytes:
    target = io.BytesIO()
    archive(run_id, target)
    return target.getvalue()


def metrics_csv(run_id: str) -> str:
    """Return all points of a run as CSV: step, metric, value, running time in seconds."""
    columns = open_store().metrics(run_id)
    rows = zip(columns.step, columns.name, columns.value, columns.seconds, strict=True)
    lines = [f"{step},{name},{value!r},{seconds:.3f}" for step, name, value, seconds in rows]
    return "\n".join(["step,metric,value,seconds", *lines, ""])


@st.dialog("Delete runs?")
def confirm(runs: list[Run]) -> None:
    """Ask before runs are deleted; their folders and weights go with them."""
    for run in runs:
        st.markdown(f"{shell.escaped(run.name)} ({run.id})")
    st.caption("Curves, checkpoints and weights will be removed from this machine.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", key="delete.yes"):
            failed = []
            for run in runs:
                try:
                    launcher.delete(run.id)
                except HybridLabError as error:
                    failed += list(error.problems)
            state.put("runs_notice", failed)
            state.put("selected_runs", [])
            st.rerun()
        if st.button("Keep", key="delete.no"):
            st.rerun()
