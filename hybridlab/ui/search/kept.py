"""Fields of the page's form, whose values the session keeps when the page changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from hybridlab.ui import state
from hybridlab.ui.held import key_showing
from hybridlab.ui.labels import distinct


def choice(
    label: str,
    name: str,
    options: Mapping[str, str],
    first: str,
    help: str | None = None,
) -> str:
    """Show a list of options with their labels; return the one that is chosen."""
    kept = state.keep(name, first)
    kept = kept if kept in options else first
    labels = distinct(options)
    key = key_showing(f"widget.{name}", kept)
    st.selectbox(
        label,
        list(options),
        index=list(options).index(kept),
        format_func=lambda one: labels[one],
        key=key,
        help=help,
        on_change=_take(name, key),
    )
    return kept


def several(
    label: str, name: str, options: Mapping[str, str], first: list[str], **more: Any
) -> list[str]:
    """Show a list of which several may be taken; return those that are, in the order in which they were."""
    kept = [one for one in state.keep(name, first) if one in options]
    labels = distinct(options)
    key = key_showing(f"widget.{name}", kept)
    st.multiselect(
        label,
        list(options),
        kept,
        format_func=lambda one: labels[one],
        key=key,
        on_change=_take(name, key),
        **more,
    )
    return kept


def number(label: str, name: str, first: int, low: int, high: int, help: str | None = None) -> int:
    """Show a whole number."""
    kept = int(state.keep(name, first))
    key = key_showing(f"widget.{name}", kept)
    st.number_input(label, low, high, kept, step=1, key=key, help=help, on_change=_take(name, key))
    return kept


def text(label: str, name: str, first: str, **more: Any) -> str:
    """Show a line of text."""
    kept = str(state.keep(name, first))
    key = key_showing(f"widget.{name}", kept)
    st.text_input(label, kept, key=key, on_change=_take(name, key), **more)
    return kept


def area(label: str, name: str, first: str, **more: Any) -> str:
    """Show lines of text, in letters of one width."""
    kept = str(state.keep(name, first))
    key = key_showing(f"widget.{name}", kept)
    st.text_area(label, kept, key=key, on_change=_take(name, key), **more)
    return kept


def _take(name: str, key: str) -> Callable[[], None]:
    def taken() -> None:
        value = st.session_state.get(key)
        if value is not None:
            state.put(name, value)

    return taken
