"""What a process that reads traces is doing, on the page: a line while it works, a sentence where it failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from hybridlab.runs import trace_reading
from hybridlab.runs.trace_reading import Reading, ReadingState
from hybridlab.ui import shell
from hybridlab.ui.again import page_again
from hybridlab.units import format_seconds

_EVERY_S = 0.5


def finished(folder: Path, what: str, key: str) -> bool:
    """Say whether a folder was read; if not, start that, show how far it is, or why it failed.

    ``what`` is read, in words for people. The page is drawn again by itself once the process has ended.
    """
    found = trace_reading.look(folder)
    if found.state is ReadingState.NEW:
        with shell.told():
            trace_reading.start(folder)
        found = trace_reading.look(folder)
    if found.state is ReadingState.READ:
        return True
    if found.state is ReadingState.READING:
        st.fragment(_progress, run_every=_EVERY_S)(folder, what, key)
        return False
    _failed(folder, found, key)
    return False


def _progress(folder: Path, what: str, key: str) -> None:
    found = trace_reading.look(folder)
    if found.state is not ReadingState.READING:
        page_again()
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(
            f":material/hourglass_top: **{shell.escaped(what)}** · {shell.escaped(found.stage)} · "
            f"{format_seconds(round(found.seconds, 1))}",
            width="stretch",
        )
        st.button(
            "Cancel",
            icon=":material/stop:",
            key=f"{key}.cancel",
            on_click=trace_reading.cancel,
            args=(folder,),
        )


def _failed(folder: Path, found: Reading, key: str) -> None:
    if found.state is ReadingState.CANCELLED:
        st.info("Reading it was cancelled.", icon=":material/cancel:")
    else:
        shell.problems(found.problems)
    st.button(
        "Read it again",
        icon=":material/refresh:",
        key=f"{key}.again",
        on_click=_again(folder),
    )


def _again(folder: Path) -> Callable[[], None]:
    def start() -> None:
        with shell.told():
            trace_reading.start(folder)

    return start
