"""Where a study stands, and what can be done with it: stop it, go on with it, set up another."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.search.driver import Driver, Request, driver, start_driver, stop_driver
from hybridlab.search.state import StudyState
from hybridlab.ui import shell, state
from hybridlab.ui.search.opened import CHANGES_S, active, look
from hybridlab.ui.search.studies import back, earlier

_NOTICE = "search.notice"


def head(name: str, study: StudyState | None) -> None:
    """Show a study's name, how far it is and its buttons; ``study`` is None until it has been made."""
    known = driver(name)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(shell.escaped(name), anchor=False, width="stretch")
        _badge(known, study)
    empty: list[Problem] = []
    told = state.keep(_NOTICE, empty)
    state.put(_NOTICE, [])
    shell.problems([*told, *(known.problems if known is not None and not known.alive else ())])
    if study is not None:
        _tally(study)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if known is not None and known.alive:
            st.button(
                "Stopping …" if known.stopping else "Stop",
                icon=":material/stop:",
                key="search.stop",
                on_click=_stop,
                args=(name,),
                disabled=known.stopping,
                help="Stops after the trials that are under way; it can be gone on with at any time.",
            )
        elif study is not None:
            _more(name, study, known)
        back()
        earlier(name)
    if active(name, study) or (known is not None and known.alive):
        st.fragment(_watch, run_every=CHANGES_S)(name, study, known)


def _badge(known: Driver | None, study: StudyState | None) -> None:
    if known is not None and known.alive:
        if known.stopping:
            st.badge("stopping", icon=":material/hourglass_top:", color="orange")
        else:
            st.badge("under way", icon=":material/play_circle:", color="blue")
    elif study is not None and any(row.state == "running" for row in study.rows):
        st.badge("worked on elsewhere", icon=":material/lan:", color="blue")
    elif study is not None and study.ended >= study.asked:
        st.badge("done", icon=":material/check_circle:", color="green")
    else:
        st.badge("stopped", icon=":material/stop_circle:", color="gray")


def _tally(study: StudyState) -> None:
    parts = [f"{study.ended:,} of {study.asked:,} trials", f"{len(study.front):,} on the front"]
    for state_, word in (
        ("running", "running"),
        ("stopped", "stopped by halving"),
        ("failed", "without values"),
    ):
        if count := study.count(state_):
            parts.append(f"{count:,} {word}")
    if beyond := int((~study.feasible).sum()):
        parts.append(f"{beyond:,} beyond a limit")
    st.progress(min(1.0, study.ended / max(1, study.asked)), text=" · ".join(parts))


def _more(name: str, study: StudyState, known: Driver | None) -> None:
    """Offer to go on: with what is missing, or with as many again."""
    missing = study.asked - study.ended
    first = missing if missing > 0 else max(10, study.asked)
    count = st.number_input(
        "Further trials",
        1,
        1_000_000,
        first,
        step=1,
        key=f"search.further.{name}.{first}",
        width=160,
    )
    st.button(
        "Go on",
        icon=":material/play_arrow:",
        key="search.go_on",
        on_click=_go_on,
        args=(name, study, known, int(count)),
        help="The same study, so that what was tried is not tried again.",
    )


def _go_on(name: str, study: StudyState, known: Driver | None, count: int) -> None:
    workers = known.request.workers if known is not None else 1
    try:
        start_driver(
            name,
            Request(study.about.file, study.ended + count, study.about.sampler, workers),
        )
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))


def _stop(name: str) -> None:
    try:
        if not stop_driver(name):
            state.put(_NOTICE, [Problem(name, "had ended already", severity="hint")])
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))


def _watch(name: str, drawn: StudyState | None, known: Driver | None) -> None:
    """Draw the page again when the study is another than the one that is drawn, or its process has ended."""
    try:
        now = look(name)
    except HybridLabError:
        now = None
    if now is not drawn or driver(name) != known:
        st.rerun(scope="app")
    if now is None:
        st.caption(":material/hourglass_top: Making the study …")
