"""The searches of this home, to open."""

from __future__ import annotations

import streamlit as st

from hybridlab.search.places import studies
from hybridlab.ui import shell
from hybridlab.ui.labels import distinct
from hybridlab.ui.search.setup import STUDY

_MOST = 500


def earlier(shown: str = "") -> None:
    """Let the user open a search that was made before; ``shown`` is the one that is open."""
    found = studies()[:_MOST]
    if not found:
        st.caption(
            "None yet. A search tries one design after the other and keeps those that no other beats."
        )
        return
    labels = distinct({name: name for name in found})
    key = f"search.studies.{shown}"
    st.selectbox(
        "Searches",
        found,
        index=found.index(shown) if shown in found else None,
        format_func=lambda name: labels[name],
        placeholder="Choose a search",
        key=key,
        on_change=lambda: _go(st.session_state.get(key)),
    )


def _go(name: str | None) -> None:
    if name:
        st.query_params.clear()
        st.query_params[STUDY] = name


def back() -> None:
    """Offer to set up another search."""
    if st.button("New search", icon=":material/add:", key="search.new"):
        shell.go(shell.SEARCH)
