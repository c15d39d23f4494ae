"""The architecture as YAML, to edit by hand; comments survive edits made elsewhere on the page."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import shell, state
from hybridlab.ui.held import held_key, renew

_KEY, _SHOWN = "design.yaml", "yaml_revision"


def yaml_view(design: state.Design) -> None:
    """Show the text with Apply and Revert; text that cannot be read is kept here and told, not applied."""
    if state.keep(_SHOWN, -1) != design.revision:
        renew(_KEY)
        state.put(_SHOWN, design.revision)
    with st.container(key="design.yaml.text"):
        shell.monospace("design.yaml.text")
        st.text_area(
            "Architecture (YAML)",
            design.text,
            key=held_key(_KEY),
            height=520,
            persist_state="session",
        )
    with st.container(horizontal=True):
        st.button(
            "Apply", type="primary", key="yaml.apply", on_click=_apply, icon=":material/check:"
        )
        st.button("Revert", key="yaml.revert", on_click=_revert, icon=":material/undo:")
    said: tuple[Problem, ...] = state.keep("yaml_problems", ())
    shell.problems(said)


def _apply() -> None:
    design, text = state.design(), str(st.session_state.get(held_key(_KEY), ""))
    if design is None:
        return
    try:
        architecture, problems = state.parsed(text)
    except HybridLabError as error:
        architecture, problems = None, error.problems
    state.put("yaml_problems", () if architecture else problems)
    if architecture is not None:
        design.change(text)
        state.put(_SHOWN, design.revision)


def _revert() -> None:
    renew(_KEY)
    state.put("yaml_problems", ())
