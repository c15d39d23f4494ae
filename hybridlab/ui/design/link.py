"""Designs and presets in the page's address: opening one asks nothing, and what was open is kept before.

``?design=CODE`` carries a whole design; ``?preset=NAME`` opens what ships, so that a text or a teacher can point at it.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import streamlit as st

from hybridlab.architecture import carried, library
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.ui import shell, state
from hybridlab.ui.design import keeping

QUERY, PRESET = "design", "preset"
_NOTICE = "link_notice"


def address(text: str) -> str:
    """Return the address that opens a text as a new design on this server.

    Raises:
        SpecError: the text is too large for an address.
    """
    code = carried.to_link(text)
    here = urlsplit(st.context.url or "")
    return urlunsplit((here.scheme, here.netloc, here.path, f"{QUERY}={code}", ""))


def follow() -> None:
    """Open what the page's address names, once; what cannot be opened is told, and nothing else happens."""
    for query, opener in ((QUERY, _open), (PRESET, _open_preset)):
        asked = st.query_params.get(query)
        if asked is not None:
            del st.query_params[query]
            try:
                opener(asked)
            except HybridLabError as error:
                state.put(_NOTICE, error.problems)
    said: tuple[Problem, ...] = state.keep(_NOTICE, ())
    if said:
        shell.problems(said)
        st.button("All right", key="link.dismiss", on_click=state.put, args=(_NOTICE, ()))


def _open(code: str) -> None:
    text = carried.from_link(code)
    architecture, problems = state.parsed(text)
    if architecture is None:
        first = problems[0].sentence() if problems else "it is empty"
        raise SpecError(Problem("link", f"the design in this link cannot be read: {first}"))
    _keep_what_is_open()
    state.open_design(text, "a link")


def _open_preset(name: str) -> None:
    entry = library.preset(name)
    text = entry.text()
    _keep_what_is_open()
    state.open_design(text, f"preset {entry.name}", preset=entry.name)


def _keep_what_is_open() -> None:
    if (current := state.design()) is not None:
        keeping.autosave(current)
        keeping.settle(current)
    state.put(_NOTICE, ())
