"""Keeps what a person does without being asked: every settled edit of the open design becomes a version."""

from __future__ import annotations

import functools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field

from hybridlab.architecture import library, versions
from hybridlab.architecture.compare import compare
from hybridlab.architecture.versions import History, Version
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.ui import state
from hybridlab.ui.state import Design

BURST_S = 30.0
"""Edits that follow each other within this time make one version, that of the last of them."""


@dataclass
class Kept:
    """How far the open design's text has been kept."""

    design: Design
    text: str
    base: str = ""
    """The text that the present burst of edits began with."""
    last: str = ""
    """The version that was kept last."""
    burst_from: float = 0.0
    opened: float = field(default_factory=time.time)
    writing: Future[Version] | None = None

    def seal(self, version: Version) -> None:
        """Go on from a version that no later edit takes the place of."""
        self.text, self.base, self.last = version.text, version.text, version.id
        self.burst_from = 0.0


def autosave(design: Design) -> tuple[Problem, ...]:
    """Keep the design if it was edited, in the background; return what went wrong the last time."""
    kept = _kept(design)
    if design.text == kept.text:
        return _failed(kept)
    now = time.time()
    if not kept.last:
        _submit(kept, kept.text, now=min(kept.opened, now - 1e-3))
        kept.base, kept.last = kept.text, versions.version_id(kept.text)
    if now - kept.burst_from > BURST_S:
        kept.base, kept.burst_from = kept.text, now
    before = _failed(kept)
    _submit(kept, design.text, kept.base, kept.last, kept.burst_from, now)
    kept.text, kept.last = design.text, versions.version_id(design.text)
    return before


def settle(design: Design, patience_s: float = 2.0) -> None:
    """Wait until what was edited has been written."""
    kept = _kept(design)
    if kept.writing is not None:
        try:
            kept.writing.result(patience_s)
        except (TooLate, HybridLabError):
            return


def finish() -> None:
    """Wait until everything that any session edited has been written."""
    _writer().submit(int).result()


def keep_now(design: Design, name: str = "") -> Version:
    """Keep the present text at once as a version that stays on its own.

    Raises:
        SpecError: the folder cannot be written.
    """
    autosave(design)
    settle(design)
    kept = _kept(design)
    made = _keep(
        design.history, design.text, design.origin, design.saved_as or "", kept.base, name=name
    )
    kept.seal(made)
    return made


def keep_other(design: Design, text: str, base: str) -> Version:
    """Keep a text that somebody else made from ``base`` among the design's versions.

    Raises:
        SpecError: the folder cannot be written.
    """
    settle(design)
    return _keep(design.history, text, design.origin, design.saved_as or "", base)


def saved(design: Design) -> None:
    """Go on in the history that belongs to the name under which the design was just saved.

    Raises:
        SpecError: the folder cannot be written.
    """
    settle(design)
    before = design.history
    design.history = versions.history_of(design.saved_as or "")
    versions.hand_on(before, design.history)
    keep_now(design)
    if before.startswith("open-") and before != design.history:
        versions.forget(before)


def restore(design: Design, version: Version) -> None:
    """Make a version's text the design's; undo goes back to what was there."""
    autosave(design)
    design.change(version.text)
    _kept(design).seal(version)
    _submit(_kept(design), version.text)


def go_on(history: History) -> None:
    """Open a design where its last edit left it.

    Raises:
        SpecError: its versions are not there any more.
    """
    version = versions.latest(history)
    if version is None:
        raise SpecError(
            Problem(history.title, "the versions of this design are not there any more")
        )
    entries = {entry.name: entry for entry in library.designs()}
    entry = entries.get(history.saved_as)
    preset = history.origin.removeprefix("preset ")
    design = state.open_design(
        version.text,
        history.origin,
        preset=preset if preset != history.origin else None,
        saved_as=entry.name if entry else None,
        history=history.id,
    )
    design.saved_text = entry.text() if entry else None
    _kept(design).seal(version)


def _kept(design: Design) -> Kept:
    """Return how far a design has been kept; one that was just opened needs no keeping until it is edited."""
    kept: Kept | None = state.keep("kept", None)
    if kept is None or kept.design is not design:
        kept = Kept(design, design.past[0] if design.past else design.text)
        state.put("kept", kept)
    return kept


def _failed(kept: Kept) -> tuple[Problem, ...]:
    error = kept.writing.exception() if kept.writing and kept.writing.done() else None
    return error.problems if isinstance(error, HybridLabError) else ()


def _submit(
    kept: Kept,
    text: str,
    base: str = "",
    instead_of: str = "",
    burst_from: float = 0.0,
    now: float | None = None,
) -> None:
    design = kept.design
    kept.writing = _writer().submit(
        _keep,
        design.history,
        text,
        design.origin,
        design.saved_as or "",
        base,
        instead_of=instead_of,
        burst_from=burst_from,
        now=now,
    )


def _keep(
    history: str,
    text: str,
    origin: str,
    saved_as: str,
    base: str,
    *,
    name: str = "",
    instead_of: str = "",
    burst_from: float = 0.0,
    now: float | None = None,
) -> Version:
    """Write a version with what changed since its parent; in the background but for what a person asked for."""
    architecture = state.parsed(text)[0]
    first = state.parsed(base)[0] if base and base != text else None
    change = compare(first, architecture).summary() if first and architecture else ""
    return versions.keep(
        history,
        text,
        title=architecture.name if architecture else "a design",
        origin=origin,
        saved_as=saved_as,
        name=name,
        fingerprint=architecture.fingerprint if architecture else "",
        parent=versions.version_id(base) if base else "",
        change=change,
        instead_of=instead_of,
        burst_from=burst_from,
        now=now,
    )


@functools.cache
def _writer() -> ThreadPoolExecutor:
    """Return the one thread that writes for all sessions, so that no edit waits for the disk."""
    return ThreadPoolExecutor(1, "versions")
