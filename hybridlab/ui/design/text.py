"""The architecture as YAML, to edit by hand; comments survive edits made elsewhere on the page."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture.fixes.fix import Fix, applied
from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import shell, state
from hybridlab.ui.design.look import text_fixes
from hybridlab.ui.design.problems import rows
from hybridlab.ui.held import held_key, renew

_KEY, _SHOWN = "design.yaml", "yaml_revision"
_DRAFT, _PROBLEMS, _REFUSED = "yaml_draft", "yaml_problems", "yaml_refused"


def yaml_view(design: state.Design) -> None:
    """Show the text with Apply and Revert; text that cannot be read is kept here and told, not applied."""
    if state.keep(_SHOWN, -1) != design.revision:
        renew(_KEY)
        state.put(_SHOWN, design.revision)
        state.put(_DRAFT, None)
    draft: str | None = state.keep(_DRAFT, None)
    with st.container(key="design.yaml.text"):
        shell.monospace("design.yaml.text")
        st.text_area(
            "Architecture (YAML)",
            design.text if draft is None else draft,
            key=held_key(_KEY),
            height=520,
            persist_state="session",
        )
    with st.container(horizontal=True):
        st.button(
            "Apply", type="primary", key="yaml.apply", on_click=_apply, icon=":material/check:"
        )
        st.button("Revert", key="yaml.revert", on_click=_revert, icon=":material/undo:")
    said: tuple[Problem, ...] = state.keep(_PROBLEMS, ())
    rows(said, text_fixes(state.keep(_REFUSED, "")) if said else {}, "yaml", _fix)


def _shown(design: state.Design) -> str:
    """Return the text as it stands in the field."""
    return str(st.session_state.get(held_key(_KEY), design.text))


def _apply() -> None:
    if design := state.design():
        _take(_shown(design), design)


def _take(text: str, design: state.Design) -> None:
    """Make a text the design where it is an architecture; otherwise keep it in the field and tell why."""
    try:
        architecture, problems = state.parsed(text)
    except HybridLabError as error:
        architecture, problems = None, error.problems
    state.put(_PROBLEMS, () if architecture else problems)
    state.put(_REFUSED, text)
    if architecture is not None:
        design.change(text)
        state.put(_SHOWN, design.revision)
        state.put(_DRAFT, None)


def _fix(fix: Fix) -> None:
    """Make a fix on the text in the field; as soon as it is an architecture it is the design."""
    design = state.design()
    if design is None:
        return
    text = _shown(design)
    if text != state.keep(_REFUSED, ""):  # typed on since: what is wrong may stand elsewhere now
        _take(text, design)
        return
    try:
        text = applied(text, fix)
    except HybridLabError as error:
        state.put(_PROBLEMS, error.problems)
        return
    state.put(_DRAFT, text)
    _take(text, design)
    renew(_KEY)


def _revert() -> None:
    renew(_KEY)
    state.put(_DRAFT, None)
    state.put(_PROBLEMS, ())
