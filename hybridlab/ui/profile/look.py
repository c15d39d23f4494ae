"""One view of a profile or a trace at a time; which one stands in the address, so that a link leads to it."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui import shell
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.sections import sections

_VIEW = "view"


def look(opened: Opened) -> None:
    """Offer the views of what is open, and show the chosen one."""
    offered = {section.name: section for section in sections(opened)}
    key = f"{opened.key}.view"
    asked = st.query_params.get(_VIEW, "")
    if key not in st.session_state:
        st.session_state[key] = asked if asked in offered else next(iter(offered))
    chosen = st.segmented_control(
        "View",
        list(offered),
        required=True,
        format_func=lambda name: f"{offered[name].icon} {offered[name].title}",
        label_visibility="collapsed",
        key=key,
        on_change=lambda: st.query_params.update({_VIEW: st.session_state[key]}),
    )
    with shell.told():
        offered[str(chosen)].draw(opened)


def show(opened: Opened, view: str) -> None:
    """Turn to another view, as a callback."""
    st.session_state[f"{opened.key}.view"] = view
    st.query_params[_VIEW] = view
