"""What a notebook shows of long work under its cell, and a terminal on stderr."""

from __future__ import annotations

import html
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybridlab.runs.record import Run
    from hybridlab.workflows.follow import Progress

_RENEW_SECONDS = 0.4


class RunShown(Protocol):
    """Where the progress of a run is shown."""

    def update(self, progress: Progress) -> None:
        """Show how far it is."""

    def stopping(self) -> None:
        """Say that it has been asked to stop."""

    def end(self, run: Run, outcome: str) -> None:
        """Show its outcome, in one line."""


def progress_of_run() -> RunShown:
    """Return what shows a run: a cell that is renewed in place, or a terminal."""
    handle = _handle()
    return _Terminal() if handle is None else _Cell(handle)


def running_shell() -> Any:
    """Return the running IPython, or None; IPython is not imported for that."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


class Bar:
    """Parts of some work that are done: a bar under a notebook's cell, or lines on stderr."""

    def __init__(self, parts: str) -> None:
        """Begin with none of them; ``parts`` is what they are called."""
        self._parts = parts
        self._handle = _handle()
        self._told = 0.0

    def part(self, done: int, of: int) -> None:
        """Show how many are done, at most some times a second."""
        now = time.monotonic()
        if done < of and now - self._told < _RENEW_SECONDS:
            return
        self._told = now
        words = f"{done:,} of {of:,} {self._parts}"
        self._show(words, f'<progress value="{done}" max="{of}"></progress> {words}')

    def say(self, words: str) -> None:
        """Show words instead."""
        self._show(words, "")

    def _show(self, words: str, drawn: str) -> None:
        if self._handle is None:
            print(words, file=sys.stderr)
        else:
            content = {"text/plain": words} | ({"text/html": drawn} if drawn else {})
            self._handle.update(content, raw=True)


def _handle() -> Any:
    """Return something to renew under the running cell; None outside a notebook."""
    shell = running_shell()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    shows: Any = display
    return shows({"text/plain": "starting"}, raw=True, display_id=True)


class _Cell:
    """Progress as a bar and a line of text under a notebook's cell, renewed in place."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.told = 0.0
        self.text = ""

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.text != self.text and (
            now - self.told >= _RENEW_SECONDS or not progress.run.state.active
        ):
            self.told, self.text = now, progress.text
            self._show(progress.run, progress.text)

    def stopping(self) -> None:
        self.text = "stopping; the run writes a checkpoint first"
        self.handle.update({"text/plain": self.text}, raw=True)

    def end(self, run: Run, outcome: str) -> None:
        self._show(run, outcome)

    def _show(self, run: Run, text: str) -> None:
        bar = f'<progress value="{run.step}" max="{max(run.steps, run.step, 1)}"></progress>'
        content = {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}
        self.handle.update(content, raw=True)


class _Terminal:
    """Progress as a line on stderr that renews itself where that is a terminal."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def update(self, progress: Progress) -> None:
        if self.live:
            print(f"\r\x1b[K{progress.text}", end="", file=sys.stderr, flush=True)

    def stopping(self) -> None:
        print("\nstopping; the run writes a checkpoint first", file=sys.stderr)

    def end(self, run: Run, outcome: str) -> None:
        print(f"{chr(10) if self.live else ''}{outcome}", file=sys.stderr)
