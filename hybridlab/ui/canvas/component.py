"""Mounts the canvas: the bundle is served as files, the design travels as data, edits come back as state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

import hybridlab
from hybridlab.ui import state
from hybridlab.ui.canvas.ahead import PATH, desks
from hybridlab.ui.canvas.desk import Desk
from hybridlab.ui.canvas.message import message, packed
from hybridlab.ui.canvas.places import load_places, save_places
from hybridlab.ui.design.look import Look
from hybridlab.ui.search.marking import in_words, switch

BUILD = Path(__file__).with_name("build")
_NAME = "hybridlab.canvas"
_KEY = "design.canvas"


def canvas(design: state.Design, known: Look) -> None:
    """Show the design on the canvas; what the user does there is in the design when the page is drawn again."""
    desk = desk_of(design)
    desk.shapes, desk.owner = state.shapes(), state.session_name()
    desk.varies = in_words(known.architecture, design.history) if known.architecture else {}
    _component()(
        key=_KEY,
        data=packed(message(desk, known), _address()),
        on_edits_change=_taker("edits", desk.take),
        on_selection_change=_taker("selection", desk.take_selection),
        on_places_change=_taker("places", lambda sent: _keep_places(desk, sent)),
        on_marks_change=_taker("marks", lambda sent: _mark(desk, sent)),
    )


def _address() -> str | None:
    """Return where this server answers ahead of Streamlit; None where it was started without that."""
    if not desks.served:
        return None
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}{PATH}" if base else PATH


def desk_of(design: state.Design) -> Desk:
    """Return the desk of the open design; another design gets a new one, and so a new canvas."""
    desk: Desk | None = state.keep("canvas_desk", None)
    if desk is None or desk.design is not design:
        desk = Desk(design, selected=design.selected)
        if design.saved_as:
            desk.places = load_places(design.saved_as)
        desks.put(desk)
        state.put("canvas_desk", desk)
    return desk


def _keep_places(desk: Desk, sent: object) -> None:
    if desk.take_places(sent) and desk.design.saved_as:
        save_places(desk.design.saved_as, desk.places)


def _mark(desk: Desk, sent: object) -> None:
    architecture = state.parsed(desk.design.text)[0]
    if architecture is not None:
        switch(architecture, desk.design.history, desk.marks(sent))


def _taker(name: str, take: Callable[[object], Any]) -> Callable[[], None]:
    def changed() -> None:
        value = st.session_state.get(_KEY)
        if value is not None:
            take(value.get(name))

    return changed


def _component() -> Any:
    """Return the component's renderer; its files are declared to the server that runs this script."""
    manager = get_bidi_component_manager()
    if manager.get_component_asset_root(_NAME) is None:
        manager.register_from_manifest(
            ComponentManifest(
                name="hybridlab",
                version=hybridlab.__version__,
                components=[ComponentConfig(name="canvas", asset_dir="build")],
            ),
            BUILD.parent,
        )
        _renderer.cache_clear()
    return _renderer()


@functools.cache
def _renderer() -> Any:
    return st.components.v2.component(_NAME, js="canvas.js", css="canvas.css", isolate_styles=False)
