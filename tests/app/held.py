"""Finds what a session shows and keeps: widgets by name (ui/held.py), values by name (ui/state.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridlab.ui.state import KEY


def held(widgets: Sequence[Any], name: str) -> Any:
    """Return the one widget of a name, whatever number its key carries."""
    (found,) = [widget for widget in widgets if (widget.key or "").split("#")[0] == name]
    return found


def in_session(page: Any, name: str) -> Any:
    """Return what the session keeps under a name, or None."""
    return _session(page).get(name)


def put_in_session(page: Any, name: str, value: Any) -> None:
    """Keep a value for the session's next runs."""
    page.session_state[KEY] = {**_session(page), name: value}


def _session(page: Any) -> dict[str, Any]:
    try:
        return page.session_state[KEY]
    except KeyError:
        return {}
