"""Studies that this server has open: each is read by one reader for all sessions."""

from __future__ import annotations

import functools
from pathlib import Path

from hybridlab.errors import RunError
from hybridlab.search.driver import driver
from hybridlab.search.places import place_of, studies
from hybridlab.search.state import StudyReader, StudyState
from hybridlab.ui.profile.opened import Opened

CHANGES_S = 1.5
"""So often a page looks whether its study has changed."""


def look(name: str) -> StudyState:
    """Return a study as it is now.

    Raises:
        RunError: there is none of that name, or it does not say which search it is.
        StoreError: its storage cannot be opened.
    """
    place = str(place_of(name))
    return _reader(name, place, _identity(place)).look()


def exists(name: str) -> bool:
    """Say whether there is such a study to look at yet; one that is just being made says too little of itself."""
    try:
        look(name)
    except RunError:
        return False
    return True


def active(name: str, state: StudyState | None) -> bool:
    """Say whether somebody works on a study."""
    known = driver(name)
    if known is not None and known.alive:
        return True
    return state is not None and any(row.state == "running" for row in state.rows)


def names() -> list[str]:
    """Return this home's studies, the newest first."""
    return studies()


def shown(state: StudyState) -> Opened:
    """Return a study as the helpers that show figures and tables know what is open."""
    return Opened(f"search.{state.name}", state.name, "profile", Path(), {})


def _identity(place: str) -> int:
    """Return a number that changes where a journal is another file than before."""
    if "://" in place:
        return 0
    try:
        return Path(place).stat().st_ino
    except OSError:
        return -1


@functools.lru_cache(maxsize=32)
def _reader(name: str, place: str, identity: int) -> StudyReader:
    return StudyReader(name)
