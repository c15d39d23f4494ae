"""A component's page in a dialog: equations, data flow as a picture, cost, state, parameters and speed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.ui import predictions, shell
from hybridlab.ui.diagram.component import diagram
from hybridlab.ui.labels import distinct
from hybridlab.views.flow_diagram import LEGEND, flow_info

_PATIENCE_S = 30.0
_LEAST_PX, _MOST_PX = 160, 640
_FLOW = "Data flow"


def about_button(name: str, key: str, label: str = "About") -> None:
    """Offer a component's page."""
    if st.button(
        label,
        key=key,
        icon=":material/menu_book:",
        type="tertiary",
        help="Equations, a picture of its data flow, cost in length, state, parameters, paper, presets, speed here.",
    ):
        about(name)


@st.dialog("About components", width="large")
def about(name: str) -> None:
    """Show the page of a component; any other can be looked up from there."""
    entries = {str(entry["name"]): entry for entry in predictions.components()}
    names = list(entries)
    titles = distinct({one: str(entry["title"]) for one, entry in entries.items()})
    chosen = st.selectbox(
        "Component",
        names,
        index=names.index(name) if name in entries else 0,
        format_func=lambda one: titles[one],
        key=f"about.{name}",
    )
    with st.spinner("Watching what it does …"):
        answer = predictions.component_page(str(chosen), _PATIENCE_S)
    if answer is None:
        st.info("This takes long. Open it again in a moment.", icon=":material/schedule:")
    elif answer.problems:
        shell.problems(answer.problems)
    else:
        _page(str(chosen), answer.value)


def _page(name: str, found: Mapping[str, Any]) -> None:
    for part in found["sections"]:
        if part["title"]:
            st.markdown(f"##### {part['title']}")
        if part["title"] == _FLOW and found["flow"]["steps"]:
            _picture(name, found["flow"])
        elif part["text"]:
            st.markdown(part["text"])
    st.download_button(
        "Page (Markdown)",
        found["page"],
        f"{name}.md",
        "text/markdown",
        key=f"about.{name}.download",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help=f"As `hybridlab components {name}` prints it.",
    )


def _picture(name: str, flow: Mapping[str, Any]) -> None:
    info = flow_info(name, flow["steps"], flow["edges"])
    height = int(min(_MOST_PX, max(_LEAST_PX, info.height + 40)))
    diagram(f"about.{name}.flow", info, height_px=height)
    st.caption(f"Found by running it once and watching. {LEGEND}")
