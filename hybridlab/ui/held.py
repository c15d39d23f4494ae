"""Widgets that show what the session's own state says, even where the browser is slower than the server.

Streamlit can tell a widget that is there already to show another value, but only in one message: where the next run's
messages arrive before the browser has drawn that one, the value is lost, the widget shows its old or lowest value, and
sends it back as if a user had chosen it. So no widget here is ever told: one that must show another value is another
widget, with a new key, which begins with that value as its default.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from hybridlab.ui import state


def key_showing(name: str, value: Any) -> str:
    """Return the key for a widget whose default is ``value``: a new one where the present widget shows another."""
    key = held_key(name)
    if key in st.session_state and st.session_state[key] != value:
        return renew(name)
    return key


def held_key(name: str) -> str:
    """Return the key that the widget of this name has at present."""
    number = _numbers().get(name, 0)
    return f"{name}#{number}" if number else name


def renew(name: str) -> str:
    """Return a key that no widget of this name had before, so that it begins with its default again."""
    numbers = _numbers()
    numbers[name] = numbers.get(name, 0) + 1
    return held_key(name)


def _numbers() -> dict[str, int]:
    empty: dict[str, int] = {}
    return state.keep("widget_numbers", empty)
