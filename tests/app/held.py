"""Finds the widget that stands for a name at present: see hybridlab/ui/held.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def held(widgets: Sequence[Any], name: str) -> Any:
    """Return the one widget of a name, whatever number its key carries."""
    (found,) = [widget for widget in widgets if (widget.key or "").split("#")[0] == name]
    return found
