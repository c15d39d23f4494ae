"""A run's page outside training: its head, how far it is, what it came to where that is nothing, and earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import shell
from hybridlab.ui.again import page_again
from hybridlab.ui.live.reader import reader
from hybridlab.ui.runs.active import line
from hybridlab.ui.runs.head import Words, head

_EVERY_S = 0.5
Told = Callable[[Run], tuple[float, str]]
"""Says of a run under way which share of it is done, and in words what its worker is at."""


def opened(run_id: str, kinds: Collection[str], words: Words, instead: str) -> Run | None:
    """Show the head of the run of an address and return it; None where there is none, which is told.

    ``instead`` is the button that leads from there to what the page is for. A run of other kinds is shown on Train.
    """
    try:
        run = reader(run_id).look()
    except HybridLabError as error:
        shell.problems(error.problems)
        if st.button(instead, icon=":material/arrow_back:"):
            shell.go(words.page)
        return None
    if run.kind not in kinds:
        shell.go(shell.TRAIN, run=run_id)
    batch = dict(run.spec.get("training") or {}).get("batch")
    head(run, words, [f"batch {batch}"] if batch else [])
    return run


def under_way(run: Run, told: Told) -> None:
    """Say twice a second what a run's worker is at; the whole page is drawn again when its state has changed."""
    st.fragment(_progress, run_every=_EVERY_S)(run.id, run.state, told)


def in_vain(run: Run, what: str) -> None:
    """Tell why an ended run has nothing to show; ``what`` it is, in words."""
    if run.error:
        st.error(shell.escaped(run.error.partition("\n")[0]), icon=":material/error:")
    else:
        st.info(
            f"This {what} was {run.state.lower()} before it had figures to show.",
            icon=":material/info:",
        )


def earlier(title: str, kind: str, most: int, none_yet: str) -> Sequence[Run]:
    """List the runs of a kind, the newest first, or say that there is none yet; return them.

    Raises:
        HybridLabError: the store cannot be read.
    """
    st.markdown(f"**{title}**")
    ensure_supervisor()
    runs = open_store().list(kind=kind, limit=most)
    if not runs:
        st.caption(none_yet)
    for run in runs:
        line(run)
    return runs


def _progress(run_id: str, drawn: RunState, told: Told) -> None:
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            page_again()
        share, words = told(run)
        st.progress(share, text=f"{words} …")
