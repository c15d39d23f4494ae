"""Remembers what stands behind texts that were written a moment ago: reading YAML back takes longer than the edit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

_MOST = 64
_guard = threading.Lock()
_kept: OrderedDict[str, tuple[Any, Any]] = OrderedDict()


def remember(text: str, root: Any, content: Any) -> None:
    """Keep a text's objects (which remember comments and order) and its plain content."""
    with _guard:
        _kept[text] = (root, content)
        _kept.move_to_end(text)
        while len(_kept) > _MOST:
            _kept.popitem(last=False)


def take_root(text: str) -> Any:
    """Return a text's objects for the caller alone to change, or None where they are not known."""
    with _guard:
        root, content = _kept.get(text, (None, None))
        if root is not None:
            _kept[text] = (None, content)
        return root


def content_of(text: str) -> Any:
    """Return a text's plain content, which nobody may change, or None where it is not known."""
    with _guard:
        return _kept.get(text, (None, None))[1]
