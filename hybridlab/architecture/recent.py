"""Remembers what stands behind texts that were written a moment ago: reading YAML back takes longer than the edit."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any

_MOST = 64
_LINE_END = re.compile(r"^[^#\n]*\S[ \t]+#", re.MULTILINE)
"""A comment behind something on its line; a quoted # is taken for one too, which costs time and nothing else."""
_guard = threading.Lock()
_kept: OrderedDict[str, tuple[Any, Any, bool]] = OrderedDict()


def remember(text: str, root: Any, content: Any, *, placed: bool = False) -> None:
    """Keep a text's objects (which remember comments and order) and its plain content.

    ``placed`` says that the objects still know their lines in the text, as they do when they were read from it. Objects
    with a comment at a line's end are not kept: they know the column where it stood when they were read, not where it
    stands since they were written.
    """
    if root is not None and _LINE_END.search(text):
        root = None
    with _guard:
        _kept[text] = (root, content, placed)
        _kept.move_to_end(text)
        while len(_kept) > _MOST:
            _kept.popitem(last=False)


def take_root(text: str, *, placed: bool = False) -> Any:
    """Return a text's objects for the caller alone to change, or None where there are none, or none ``placed``."""
    with _guard:
        root, content, has_places = _kept.get(text, (None, None, False))
        if root is None or (placed and not has_places):
            return None
        _kept[text] = (None, content, False)
        return root


def content_of(text: str) -> Any:
    """Return a text's plain content, which nobody may change, or None where it is not known."""
    with _guard:
        return _kept.get(text, (None, None, False))[1]
