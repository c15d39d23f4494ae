"""Which trial of each study is chosen, in every view of it."""

from __future__ import annotations

from hybridlab.ui import state

_CHOSEN = "search.chosen"


def chosen(study: str) -> int | None:
    """Return the number of the trial that is chosen in a study; None where none is."""
    return _all().get(study)


def take(study: str, number: int | None) -> None:
    """Choose a trial, as a callback."""
    state.put(_CHOSEN, {**_all(), study: number})


def _all() -> dict[str, int | None]:
    empty: dict[str, int | None] = {}
    return state.keep(_CHOSEN, empty)
