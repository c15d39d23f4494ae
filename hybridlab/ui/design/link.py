"""Designs in the page's address: opening one asks nothing, and it never takes the place of what is open unkept."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import streamlit as st

from hybridlab.architecture import carried
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.ui import shell, state
from hybridlab.ui.design import keeping

QUERY = "design"
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
    """Open the design in the page's address, once; a link that cannot be read is told, and nothing else happens."""
    code = st.query_params.get(QUERY)
    if code is not None:
        del st.query_params[QUERY]
        try:
            _open(code)
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
    if (current := state.design()) is not None:
        keeping.autosave(current)
        keeping.settle(current)
    state.put(_NOTICE, ())
    state.open_design(text, "a link")
