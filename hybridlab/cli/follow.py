"""Following a run from the terminal: progress on stderr, Ctrl-C asks it to stop, the result at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from hybridlab.cli.output import give, say
from hybridlab.errors import Problem
from hybridlab.runs.energy_words import energy_words
from hybridlab.runs.record import Run, RunState
from hybridlab.units import format_seconds
from hybridlab.workflows.alone import distillation_of
from hybridlab.workflows.follow import Progress
from hybridlab.workflows.follow import follow as wait_for

_LINE_SECONDS = 5.0
_EXIT = {RunState.DONE: 0, RunState.CANCELLED: 130}


def follow(run: Run) -> Run:
    """Tell a run's id and its progress until it has ended, and return it; Ctrl-C asks it to stop."""
    say(f"run: {run.id}")
    teller = _Teller()
    try:
        return wait_for(run, teller.update, teller.stopping)
    finally:
        teller.line_end()


def finish(run: Run, json: bool) -> int:
    """Print how a run ended and return the exit code: 0 where it is done."""
    if json:
        give(ended(run))
    elif run.state is RunState.DONE:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in _metrics(run).items())
        seconds = float((run.result or {}).get("seconds") or 0.0)
        print(f"{run.id} is done: {run.step} steps in {format_seconds(seconds)}, {metrics}")
        say(f"energy: {energy_words(dict((run.result or {}).get('energy') or {}))}")
        if (distilled := distillation_of(run)) is not None:
            say(distillation_words(distilled))
    if run.state is not RunState.DONE:
        said = f": {run.error}" if run.error else ""
        say(f"run {run.id} is {run.state.lower()}{said}")
        if run.state.resumable:
            say(f"`hybridlab runs resume {run.id}` goes on from its last checkpoint")
    return _EXIT.get(run.state, 1)


def ended(run: Run) -> dict[str, Any]:
    """Return what the command line promises about a run, as plain JSON."""
    result = dict(run.result or {})
    outcome: dict[str, Any] = {
        "run": run.id,
        "state": str(run.state),
        "steps": result.get("steps", run.step),
        "seconds": result.get("seconds"),
        "metrics": _metrics(run),
        "weights_sha256": result.get("weights_sha256"),
        "stop_reason": result.get("stop_reason"),
        "energy": result.get("energy"),
    }
    if (distilled := distillation_of(run)) is not None:
        outcome["distillation"] = distilled
    if run.state is not RunState.DONE:
        message = run.error or f"the run is {run.state.lower()}"
        outcome["errors"] = [Problem(f"run {run.id}", message).as_dict()]
    return outcome


def distillation_words(told: Mapping[str, Any]) -> str:
    """Return what a student kept and saves in a sentence, with itself alone where that was trained too."""
    name, kept, saved = str(told["metric"]), told.get("kept"), dict(told.get("saved") or {})
    words = f"of the teacher's {name.replace('_', ' ')} {told['teacher']['metrics'][name]:.4g}, "
    words += "unknown" if kept is None else f"{kept:.1%} kept"
    for key, what in (("flops_per_sample", "FLOPs"), ("weight_bytes", "bytes"), ("step_ms", "ms")):
        words += f", {saved.get(key, 0.0):+.0%} {what}" if key in saved else ""
    words += " saved (predicted)"
    alone = told.get("alone")
    if alone is None:
        return words + "; the student alone was not trained for as long (--also-alone does)"
    return words + f"; alone {alone['metrics'].get(name, float('nan')):.4g} in run {alone['run']}"


def _metrics(run: Run) -> dict[str, float]:
    return dict((run.result or {}).get("metrics") or {})


class _Teller:
    """Writes one line that renews itself on a terminal, and a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.told = -_LINE_SECONDS
        self.open = False
        self.last = ""

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        text = progress.text
        if text == self.last or (not self.live and now - self.told < _LINE_SECONDS):
            return
        self.told, self.last = now, text
        if self.live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self.open = True
        else:
            say(text)

    def line_end(self) -> None:
        if self.open:
            sys.stderr.write("\n")
            self.open = False

    def stopping(self) -> None:
        self.line_end()
        say("stopping; Ctrl-C again leaves the run to itself")
