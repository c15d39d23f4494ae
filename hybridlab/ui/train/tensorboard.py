"""The button that opens a run's traces in TensorBoard, with what its profiler plugin shows wrongly today."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from hybridlab.runs.home import run_folder
from hybridlab.runs.profile_request import PROFILE, traces
from hybridlab.ui import shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.tensorboards import TensorBoard

_KEY = "tensorboard"
_EVERY_S = 1.0
WRONG = (
    "Device time of operators is 0 on GPU traces made since 2022.",
    "Steps of GPU traces are counted twice.",
    "Time in NCCL communication is missing from the distributed view.",
    "The module view needs traces with stacks, which these are not; it knows forward and class names only.",
    "There is no live view: a new trace is seen some seconds after it is written.",
    "Its charts are loaded from the web: without a way there the pages stay empty of them.",
)
"""What torch-tb-profiler 0.4.3 shows wrongly or not at all under today's versions; it is no longer looked after."""


def button(run_id: str) -> None:
    """Offer TensorBoard on a run's traces; this session's own, which ends with it."""
    board: TensorBoard | None = state.keep(_KEY, None)
    mine = board is not None and board.folder == run_folder(run_id) / PROFILE
    waiting = mine and board is not None and board.alive and board.url is None
    st.fragment(_draw, run_every=_EVERY_S if waiting else None)(run_id, waiting)


def _draw(run_id: str, waiting: bool) -> None:
    folder = run_folder(run_id) / PROFILE
    board: TensorBoard | None = state.keep(_KEY, None)
    mine = board if board is not None and board.folder == folder else None
    starting = mine is not None and mine.alive and mine.url is None
    if starting != waiting:  # only the whole page can begin or end looking every second
        page_again()
    with st.container(horizontal=True, vertical_alignment="center"):
        if mine is None or not mine.alive:
            st.button(
                "Open in TensorBoard",
                icon=":material/analytics:",
                on_click=_start,
                args=(run_id,),
                disabled=not traces(run_id),
                key="tensorboard.start",
                help="With the torch-tb-profiler plugin, on a free port of this machine, for this session only.",
            )
        else:
            if mine.url is None:
                st.caption(":material/hourglass_top: TensorBoard is starting …")
            else:
                st.link_button(
                    "TensorBoard", f"{mine.url}#pytorch_profiler", icon=":material/open_in_new:"
                )
            st.button(
                "Stop TensorBoard", icon=":material/stop:", on_click=stop, key="tensorboard.stop"
            )
    if mine is not None and mine.failure:
        st.error(shell.escaped(mine.failure), icon=":material/error:")
    if mine is not None and mine.url is not None:
        st.caption(
            "It listens on the machine that HybridLab runs on, and can be opened there only."
        )
    with st.expander("What TensorBoard's profiler shows wrongly", icon=":material/info:"):
        st.markdown("\n".join(f"- {line}" for line in WRONG))


def _start(run_id: str) -> None:
    """Start it for this session, as a callback; one that the session has already is stopped."""
    stop()
    board = TensorBoard(run_folder(run_id) / PROFILE)
    state.put(_KEY, board)
    board.watch(_session_is_here())


def stop() -> None:
    """Stop this session's TensorBoard, if it has one."""
    board: TensorBoard | None = state.keep(_KEY, None)
    if board is not None:
        board.stop()
    state.put(_KEY, None)


def _session_is_here() -> Callable[[], bool]:
    """Return what says whether this session still has a browser."""
    context = get_script_run_ctx()
    if context is None or not runtime.exists():
        return lambda: True
    server, session = runtime.get_instance(), context.session_id
    return lambda: server.is_active_session(session)
