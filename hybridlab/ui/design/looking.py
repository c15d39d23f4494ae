"""A shared version, to look at: diagram, text, costs and what changed; nothing here can change anybody's design."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import streamlit as st

from hybridlab.architecture.shared import Shared, share, shared
from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import clock, predictions, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.design import comparison, keeping
from hybridlab.ui.design.fitting import fit_task
from hybridlab.ui.design.look import Look, look
from hybridlab.ui.design.picture import costs
from hybridlab.ui.design.totals import ready, totals
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.state import Design
from hybridlab.views.diagram import diagram_info

QUERY = "look"
_PREDICTION, _OWN = "looked_prediction", "last_prediction"


def address(design: Design) -> str:
    """Keep the design as it is now to be looked at, and return the address that shows it.

    Raises:
        SpecError: it is too large, or the folder cannot be written.
    """
    before = design.saved_text or (design.past[0] if design.past else "")
    kept = share(design.text, "" if before == design.text else before)
    here = urlsplit(st.context.url or "")
    return urlunsplit((here.scheme, here.netloc, here.path, f"{QUERY}={kept.id}", ""))


def page(code: str) -> None:
    """Show the shared version of a code; a code that is none is told in one sentence."""
    try:
        found = shared(code)
        architecture, problems = state.parsed(found.text)
    except HybridLabError as error:
        architecture, problems = None, error.problems
    if architecture is None:
        _told(problems)
        return
    if not ready():
        return
    design = Design(found.text, "a shared version")
    fit_task(found.text, code)
    known = _known(design)
    _head(found, architecture.name)
    totals(known)
    views = ["Diagram", "YAML", "Costs", *(["Changes"] if found.before else [])]
    view = st.segmented_control(
        "View",
        views,
        default="Diagram",
        required=True,
        key="look.view",
        label_visibility="collapsed",
        width="content",
    )
    if view == "YAML":
        st.code(found.text, language="yaml", height=560)
    elif view == "Costs":
        costs(known)
    elif view == "Changes":
        _changes(design, known, found)
    else:
        _picture(known, found.text)
    if known.pending:
        _wait(found.text, known.pending)


def _told(problems: tuple[Problem, ...]) -> None:
    shell.problems(problems)
    st.button("To the start page", key="look.leave", on_click=_leave)


def _head(found: Shared, name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(horizontal=True, vertical_alignment="bottom", width="stretch"):
            st.subheader(shell.escaped(name), anchor=False, width="content")
            st.badge("read only", icon=":material/visibility:", color="gray")
            st.caption(f"as it was shared at {clock.moment(found.time)}", width="content")
        st.button(
            "Make a copy",
            key="look.copy",
            type="primary",
            icon=":material/content_copy:",
            on_click=_copy,
            args=(found.text,),
            help="Open a design of your own that begins with this text",
        )
        if state.design() is not None:
            st.button("Back to my design", key="look.leave", on_click=_leave)


def _known(design: Design) -> Look:
    """Look at the version as the designer would; the open design's own last prediction stays what it is."""
    own = state.keep(_OWN, None)
    state.put(_OWN, state.keep(_PREDICTION, None))
    known = look(design, state.shapes())
    state.put(_PREDICTION, state.keep(_OWN, None))
    state.put(_OWN, own)
    return known


def _picture(known: Look, text: str) -> None:
    drawn = known.completed or known.architecture
    if drawn is None or sum(1 for _ in drawn.walk()) > MOST_BOXES:
        st.info(f"There are too many nodes to draw; at most {MOST_BOXES}.")
        return
    info = diagram_info(
        drawn, known.edges, known.problems, predictions.components(), known.supplied
    )
    diagram("look.diagram", info, carries=text)
    shell.problems(known.problems)


def _changes(design: Design, known: Look, found: Shared) -> None:
    before = state.parsed(found.before)[0]
    if before is None or known.architecture is None:
        st.info("What it was before cannot be read.", icon=":material/info:")
        return
    st.caption("Against what its owner had saved or opened before.")
    comparison.difference(
        design, known, found.before, before, known.architecture, "before", "look.difference"
    )


def _copy(text: str) -> None:
    """Open a copy as the visitor's own design, as a callback; what was open is kept."""
    if (current := state.design()) is not None:
        keeping.autosave(current)
        keeping.settle(current)
    state.open_design(text, "a shared version")
    _leave()


def _leave() -> None:
    st.query_params.clear()


@st.fragment(run_every=0.5)
def _wait(text: str, pending: str) -> None:
    ask = predictions.check if pending == "check" else predictions.predict
    if ask(text, state.shapes(), state.session_name()) is not None:
        page_again()
    st.caption(":material/hourglass_top: Working out shapes and cost …")
