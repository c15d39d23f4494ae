"""Takes the design out of the page: as YAML, as a link, as a picture that carries it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from hybridlab.architecture.carried import svg_with
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import HybridLabError
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.design import link, looking
from hybridlab.ui.design.look import Look
from hybridlab.ui.diagram.component import MOST_BOXES
from hybridlab.ui.state import Design
from hybridlab.views.diagram import DiagramInfo, diagram_info
from hybridlab.views.diagram_svg import MARGIN, diagram_svg

_MENU = "design.share_menu"
_PATIENCE_S = 3.0
_HELP = "The diagram; the design travels inside, and HybridLab opens it again"
_LOOK = "Later edits do not show; whoever looks can make a copy"
_button = st.components.v2.component(
    "hybridlab_share",
    html='<button type="button"></button>\n<span role="status"></span>\n',
    css=Path(__file__).with_name("share.css").read_text(encoding="utf-8"),
    js=Path(__file__).with_name("share.js").read_text(encoding="utf-8"),
)


def share_menu(design: Design, known: Look) -> None:
    """Show a button that opens the ways out; what nobody sees is not drawn."""
    menu = st.popover("Share", icon=":material/share:", key=_MENU, on_change="rerun")
    if menu.open:
        with menu:
            _panel(design, known)


def _panel(design: Design, known: Look) -> None:
    name = known.architecture.name if known.architecture else "design"
    try:
        data = {"label": "Copy link", "text": link.address(design.text), "help": "", "svg": ""}
        _button(key="design.copy_link", data=data)
        st.caption("Whoever opens the link on this server gets a copy of the design.")
    except HybridLabError as error:
        shell.problems(error.problems)
    with shell.told():
        data = {"label": "Copy link to look only", "text": looking.address(design)}
        _button(key="design.copy_look", data={**data, "help": _LOOK, "svg": ""})
        st.caption("It shows the design as it is now, and nothing can be changed there.")
    st.markdown("**Download**")
    with st.container(horizontal=True):
        _download("YAML", f"{name}.yaml", "application/yaml", design.text, "The text itself")
        if known.architecture is not None and _drawable(known.architecture):
            info = _info(known, known.architecture)
            svg = diagram_svg(info, paper=True)
            _download("SVG", f"{name}.svg", "image/svg+xml", svg_with(svg, design.text), _HELP)
            _png(svg, info, design.text, f"{name}.png")
    _python(design, name)


def _python(design: Design, name: str) -> None:
    """Offer the design as a Python file, once a warm process has written it."""
    answer = predictions.python_file(design.text, state.shapes(), state.session_name(), _PATIENCE_S)
    if answer is None:
        st.caption("The PyTorch file is being written; open this menu again in a moment.")
    elif answer.problems:
        st.caption(f"No PyTorch file: {shell.escaped(answer.sentence)}")
    else:
        said = "One file with a class Model, with the task's input and head; runs with torch alone"
        _download("PyTorch", f"{name}.py", "text/x-python", answer.value, said)


def _drawable(architecture: Architecture) -> bool:
    return sum(1 for _ in architecture.walk()) <= MOST_BOXES


def _info(known: Look, architecture: Architecture) -> DiagramInfo:
    return diagram_info(
        known.completed or architecture,
        known.edges,
        known.problems,
        predictions.components(),
        known.supplied,
    )


def _png(svg: str, info: DiagramInfo, text: str, file: str) -> None:
    """Show a button that lets the browser, which has the fonts, draw the picture."""
    size = {"width": info.width + 2 * MARGIN, "height": info.height + 2 * MARGIN}
    data = {"label": "PNG", "help": _HELP, "svg": svg, "text": text, "file": file, **size}
    _button(key="design.png", data=data, width=90)


def _download(label: str, file: str, kind: str, data: str, help: str) -> None:
    st.download_button(
        label,
        data,
        file,
        kind,
        key=f"share.{label}",
        icon=":material/download:",
        on_click="ignore",
        help=help,
    )
