"""What a session keeps between pages, under a key of our own: widgets forget their values when the page changes.

It is one key for all of it, since Streamlit looks at every key of the session for each number field that it draws.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import streamlit as st

from hybridlab.architecture import document, versions
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem
from hybridlab.ui.predictions import Shapes

HISTORY = 100
KEY = "hybridlab"
"""Where a session keeps all that is not a widget's."""
_T = TypeVar("_T")


@dataclass
class Design:
    """The architecture that this session edits, as text, with what undo needs and what is selected."""

    text: str
    origin: str
    """Where it came from, in words, such as ``preset hymba_mini``."""
    preset: str | None = None
    saved_as: str | None = None
    saved_text: str | None = None
    selected: str | None = None
    past: list[str] = field(default_factory=list)
    future: list[str] = field(default_factory=list)
    revision: int = 0
    """Counts changes of the text, so that widgets showing it know when to take it anew."""
    history: str = field(default_factory=versions.new_history)
    """Where its versions are kept."""

    @property
    def dirty(self) -> bool:
        """Whether the text differs from what was saved last, or was never saved."""
        return self.text != self.saved_text

    def change(self, text: str, selected: str | None = None) -> None:
        """Take a new text; undo goes back to the one before."""
        if text != self.text:
            self.past = [*self.past[-HISTORY + 1 :], self.text]
            self.future = []
            self._take(text)
        if selected is not None:
            self.selected = selected

    def undo(self) -> None:
        """Go back one change."""
        if self.past:
            self.future.append(self.text)
            self._take(self.past.pop())

    def redo(self) -> None:
        """Make the change that was taken back last."""
        if self.future:
            self.past.append(self.text)
            self._take(self.future.pop())

    def _take(self, text: str) -> None:
        self.text = text
        self.revision += 1


@functools.lru_cache(maxsize=256)
def parsed(text: str) -> tuple[Architecture | None, tuple[Problem, ...]]:
    """Return the architecture that a text describes, or None with what is wrong; kept, since reading takes a while."""
    architecture, problems = document.parse(text)
    return architecture, tuple(problems)


def design() -> Design | None:
    """Return the session's design; None until one was opened."""
    return cast("Design | None", _session().get("design"))


def open_design(
    text: str,
    origin: str,
    *,
    preset: str | None = None,
    saved_as: str | None = None,
    history: str | None = None,
) -> Design:
    """Make this text the session's design, with nothing to undo; ``history`` is where its versions go on."""
    before = design()
    opened = Design(text, origin, preset, saved_as, text if saved_as or preset else None)
    opened.revision = before.revision + 1 if before else 0
    if history or saved_as:
        opened.history = history or versions.history_of(saved_as or "")
    put("design", opened)
    put("design_choosing", False)
    return opened


def shapes() -> Shapes:
    """Return the task and batch for which this session looks at shapes and costs."""
    return keep("shapes", Shapes("digits_sequence"))


def set_shapes(chosen: Shapes) -> None:
    """Look at shapes and costs for another task or batch."""
    put("shapes", chosen)


def session_name() -> str:
    """Return a name that tells this session's questions from those of others; it is no secret."""
    return keep("session", secrets.token_hex(6))


def keep(name: str, default: _T) -> _T:
    """Return what this session keeps under a name, which is the default at first."""
    return cast("_T", _session().setdefault(name, default))


def put(name: str, value: object) -> None:
    """Keep a value under a name for this session."""
    _session()[name] = value


def forget(name: str) -> object:
    """Keep nothing under a name any more; return what was kept, None where there was nothing."""
    return _session().pop(name, None)


def _session() -> dict[str, Any]:
    empty: dict[str, Any] = {}
    return cast("dict[str, Any]", st.session_state.setdefault(KEY, empty))
