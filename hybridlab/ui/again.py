"""Draws the whole page again from a part of it that a timer draws."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def page_again() -> None:
    """Draw the whole page again, where a timer draws this part alone; the part ends here then.

    Not while the page itself is drawn, of which this is a part: a click on what stands below would be forgotten. The
    timer's next beat does it.
    """
    context = get_script_run_ctx()
    if context is not None and context.fragment_ids_this_run:
        st.rerun(scope="app")
