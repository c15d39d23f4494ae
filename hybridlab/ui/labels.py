"""Lines of a list that read alike and yet are told apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Choice = TypeVar("Choice", bound=Hashable)
_UNSEEN = "\u2060"
"""A word joiner: it takes no room, no reader speaks it, and Streamlit does not strip it."""


def distinct(labels: Mapping[Choice, str]) -> dict[Choice, str]:
    """Return the labels, those that repeat an earlier one with so many unseen signs at their end.

    A browser sends the label of what was chosen, and of two that are the same Streamlit takes the last: without this,
    whoever picks the newer of two versions of one second would get the older.
    """
    seen: dict[str, int] = {}
    found = {}
    for choice, label in labels.items():
        times = seen[label] = seen.get(label, -1) + 1
        found[choice] = label + _UNSEEN * times
    return found
