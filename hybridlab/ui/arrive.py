"""Opens a page at the section that its address names, as a finding that leads to what acts on it does."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

SECTION = "section"
"""In the address: the last part of the key of a section."""
_arriving = st.components.v2.component(
    "hybridlab_arrive",
    html="<span></span>\n",
    css=".st-key-arrive { display: none; }\n",
    js=Path(__file__).with_name("arrive.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
_NOT_IN_CLASSES = re.compile(r"[^a-zA-Z0-9_-]")


def arrive(head: str) -> None:
    """Bring the section that the address asks for into view, unfolded; ``head`` begins the keys of the page's sections.

    A page that has no such section opens at its top.
    """
    asked = st.query_params.get(SECTION, "")
    if asked:
        place = _NOT_IN_CLASSES.sub("-", f"{head}.{asked}".strip())
        with st.container(key="arrive"):
            _arriving(key=f"arrive.{place}", data={"place": place})
