"""Where a study stands, and what can be done with it: stop it, go on with it, set up another."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture.document import write_yaml
from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.slots import core_count
from hybridlab.search.state import StudyState
from hybridlab.ui import shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.search.opened import CHANGES_S, NOTICE, begun, come, coming, look
from hybridlab.ui.search.studies import back, earlier
from hybridlab.workflows.start_search import last_words, start_search, stop_search


def head(name: str, study: StudyState | None) -> None:
    """Show a study's name, how far it is and its buttons; ``study`` is None until it has been made."""
    alive = study is not None and study.living > 0
    if alive:
        come(name)
    awaited = not alive and coming(name)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(shell.escaped(name), anchor=False, width="stretch")
        _badge(study, awaited)
    empty: list[Problem] = []
    shell.problems(state.keep(NOTICE, empty))
    state.put(NOTICE, [])
    if study is not None:
        _tally(study)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if study is not None and alive:
            st.button(
                "Stop",
                icon=":material/stop:",
                key="search.stop",
                on_click=_stop,
                args=(name,),
                help="Its workers on this machine stop and give back what they are at; it can be gone on with later.",
            )
        elif study is not None and not awaited:
            _more(name, study)
        back()
        earlier(name)
    if not alive and not awaited and (words := last_words(name)):
        _words(words, missing=study is None or study.ended < study.asked)
    if alive or awaited:
        st.fragment(_follow, run_every=CHANGES_S)(name, study)


def _badge(study: StudyState | None, awaited: bool) -> None:
    if awaited:
        st.badge("starting", icon=":material/hourglass_top:", color="orange")
    elif study is None:
        st.badge("not there", icon=":material/error:", color="red")
    elif study.living:
        workers = f", {study.living} processes" if study.living > 1 else ""
        st.badge(f"under way{workers}", icon=":material/play_circle:", color="blue")
    elif study.ended >= study.asked:
        st.badge("done", icon=":material/check_circle:", color="green")
    else:
        st.badge("stopped", icon=":material/stop_circle:", color="gray")


def _tally(study: StudyState) -> None:
    parts = [f"{study.ended:,} of {study.asked:,} trials", f"{len(study.front):,} on the front"]
    for one, words in (
        ("running", "running"),
        ("lost", "to be gone on with"),
        ("stopped", "stopped by halving"),
        ("failed", "without values"),
        ("beyond", "beyond a limit"),
    ):
        if count := study.count(one):
            parts.append(f"{count:,} {words}")
    st.progress(min(1.0, study.ended / max(1, study.asked)), text=" · ".join(parts))


def _more(name: str, study: StudyState) -> None:
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
    workers = st.number_input(
        "Workers",
        1,
        64,
        min(2, core_count()),
        step=1,
        key=f"search.further_workers.{name}",
        width=130,
    )
    st.button(
        "Go on",
        icon=":material/play_arrow:",
        key="search.go_on",
        on_click=_go_on,
        args=(name, study, int(count), int(workers)),
        help="The same study, so that what was tried is not tried again.",
    )


def _go_on(name: str, study: StudyState, count: int, workers: int) -> None:
    try:
        begun(name)
        file = {key: one for key, one in study.about.file.items() if one is not None}
        text = write_yaml({**file, "sampler": study.about.sampler})
        start_search(text, study=name, trials=study.ended + count, workers=workers)
    except HybridLabError as error:
        state.put(NOTICE, list(error.problems))


def _stop(name: str) -> None:
    try:
        if not stop_search(name):
            words = "no process of this machine works on it; stop it where it was started"
            state.put(NOTICE, [Problem(name, words, severity="hint")])
    except HybridLabError as error:
        state.put(NOTICE, list(error.problems))


def _words(words: str, *, missing: bool) -> None:
    """Show what a study's processes said: openly where the study is not done, since it may say why."""
    with st.expander("What its processes said", expanded=missing, icon=":material/terminal:"):
        st.code(words, language=None, wrap_lines=True)


def _follow(name: str, drawn: StudyState | None) -> None:
    """Draw the page again when the study is another than the one that is drawn, or nothing comes of the start."""
    try:
        now = look(name)
    except HybridLabError:
        now = None
    alive = now is not None and now.living > 0
    if now is not drawn or not (alive or coming(name)):
        page_again()
    if now is None:
        st.caption(":material/hourglass_top: Making the study …")
