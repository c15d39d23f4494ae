"""Studies that this server has open: each is read by one reader for all sessions."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from hybridlab.search.places import place_of
from hybridlab.search.state import StudyState, StudyWatch
from hybridlab.ui import state
from hybridlab.ui.profile.opened import Opened
from hybridlab.workflows.start_search import last_words

CHANGES_S = 1.5
"""So often a page looks whether its study has changed."""
_COMING_S = 60.0
"""A process that was started has shown itself by then, on a slow machine too."""
_BEGUN = "search.begun"
NOTICE = "search.notice"
"""What is to be told at the head of a study when the page is drawn again."""


def look(name: str) -> StudyState:
    """Return a study as it is now.

    Raises:
        RunError: there is none of that name, or it does not say which search it is.
        StoreError: its storage cannot be opened.
    """
    place = str(place_of(name))
    return _watch(name, place, _identity(place)).look()


def begun(name: str) -> None:
    """Note that this session has just started a process for a study."""
    state.put(_BEGUN, {**_all_begun(), name: (time.time(), last_words(name))})


def coming(name: str) -> bool:
    """Say whether a process that this session started for a study may not have shown itself yet, nor said why not."""
    since, words = _all_begun().get(name, (0.0, ""))
    return time.time() - since < _COMING_S and last_words(name) == words


def come(name: str) -> None:
    """Note that the process has shown itself."""
    if name in _all_begun():
        state.put(_BEGUN, {key: one for key, one in _all_begun().items() if key != name})


def shown(study: StudyState) -> Opened:
    """Return a study as the helpers that show figures and tables know what is open."""
    return Opened(f"search.{study.name}", study.name, "profile", Path(), {})


def _all_begun() -> dict[str, tuple[float, str]]:
    empty: dict[str, tuple[float, str]] = {}
    return state.keep(_BEGUN, empty)


def _identity(place: str) -> int:
    """Return a number that changes where a journal is another file than before."""
    if "://" in place:
        return 0
    try:
        return Path(place).stat().st_ino
    except OSError:
        return -1


@functools.lru_cache(maxsize=32)
def _watch(name: str, place: str, identity: int) -> StudyWatch:
    return StudyWatch(name)
