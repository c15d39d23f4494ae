"""What a training measured of the components of a design, by the addresses that the canvas draws."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import state
from hybridlab.ui.canvas.energy import per_step, shared_out
from hybridlab.ui.live.reader import Reader, reader
from hybridlab.units import format_joules

SINGLE = ("grad_norm", "update_ratio")
LOAD = "expert_load"
_MOST_RUNS = 50
"""So many of the newest trainings are looked at."""
_MOST_READ = 2
"""So many texts are read at one look: reading takes some milliseconds, and the others come at the next."""
_EVERY_S = 0.8
"""The list of runs is asked for at most this often, however many sessions look."""


def message(design: state.Design, seed: str) -> dict[str, Any]:
    """Return the run and the values by quantity and address, for the canvas of that seed; no run where none trained it.

    The values of a text that cannot be read, or of a store that cannot be read now, are none. ``why`` says by quantity
    what is missing where that is not plain from the run.
    """
    about: dict[str, Any] = {"seed": seed, "revision": design.revision}
    nothing = about | {"run": None, "values": {}, "why": {}}
    architecture = state.parsed(design.text)[0]
    if architecture is None:
        return nothing
    try:
        run = _trainings.of(architecture.fingerprint, design.text)
        if run is None:
            return nothing
        source = reader(run.id)
        run = source.look()
        joules, why = _energy(run, architecture.fingerprint, design.text)
    except HybridLabError:  # the store cannot be read now: the pages of the runs say why
        return nothing
    step, found = values(source)
    if joules:
        found["energy_j"] = joules
    told = {"id": run.id, "name": run.name, "state": run.state.lower(), "task": _task(run)}
    told_run = told | {"step": step, "steps": run.steps}
    return about | {"run": told_run, "values": found, "why": {"energy_j": why} if why else {}}


def _energy(run: Run, fingerprint: str, text: str) -> tuple[dict[str, float], str]:
    """Return the joules of one step by address, or none and a sentence that says what is missing.

    Raises:
        StoreError: the store cannot be read.
    """
    step_j, why = per_step(run)
    if step_j is None:
        return {}, why
    done = [one for one in _profiles.all_of(fingerprint, text) if one.state is RunState.DONE]
    fitting = (shared_out(step_j, one) for one in done if _task(one) == _task(run))
    if found := next(filter(None, fitting), None):
        return found, ""
    on = f" on {_task(run)}" if _task(run) else ""
    then = f"Profile this design{on}, and it is shared out by measured time."
    return {}, f"A step took {format_joules(step_j)}, measured. {then}"


def _task(run: Run) -> str:
    training = run.spec.get("training")
    return str(training.get("task", "")) if isinstance(training, Mapping) else ""


def values(
    source: Reader, single: Collection[str] = SINGLE
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the newest step at which components were measured, and what by quantity and address.

    ``single`` are the quantities of one number that are asked for.

    Addresses are those of the canvas, where a group's repeats are one; loads are lists, one share an expert.
    """
    found: dict[str, dict[str, Any]] = {}
    newest = 0
    for name, value in source.latest().items():
        quantity, _, rest = name.partition("/")
        if quantity in single and _of_canvas(rest):
            found.setdefault(quantity, {})[rest] = value
            newest = max((newest, *source.curve(name)[0][-1:]))
        elif quantity == LOAD:
            address, _, expert = rest.rpartition("/")
            if _of_canvas(address) and expert.isdigit():
                loads = found.setdefault(LOAD, {}).setdefault(address, {})
                loads[int(expert)] = value
    for address, shares in found.get(LOAD, {}).items():
        found[LOAD][address] = [shares.get(expert, 0.0) for expert in range(max(shares) + 1)]
    return newest, found


def _of_canvas(address: str) -> bool:
    """Say whether an address names no single repeat of a group."""
    return bool(address) and not any(step.isdigit() for step in address.split("."))


class Trainings:
    """Finds the trainings of a design, or its profiles; all sessions share it, so that the store is asked once."""

    def __init__(self, kind: str = "train") -> None:
        """Set up; nothing is read yet."""
        self._kind = kind
        self._lock = threading.Lock()
        self._looked = -_EVERY_S
        self._runs: list[Run] = []
        self._fingerprints: dict[str, str | None] = {}

    def of(self, fingerprint: str, text: str) -> Run | None:
        """Return the training of the architecture that this text describes: a running one first, then the newest.

        Raises:
            StoreError: the store cannot be read.
        """
        # the newest of the best rank: they come newest first
        return min(self.all_of(fingerprint, text), key=_rank, default=None)

    def all_of(self, fingerprint: str, text: str) -> list[Run]:
        """Return every run of the architecture that this text describes, the newest first.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock:
            self._look()
            self._fingerprints[text] = fingerprint
            self._read()
            known = self._fingerprints
            return [run for run in self._runs if known.get(_text(run)) == fingerprint]

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _EVERY_S:
            self._runs = open_store().list(kind=self._kind, limit=_MOST_RUNS)
            self._looked = now

    def _read(self) -> None:
        """Read texts that are not known yet, a few at a time, and forget those of runs that are out of sight."""
        texts = dict.fromkeys(map(_text, self._runs))
        unknown = [text for text in texts if text not in self._fingerprints]
        for text in unknown[:_MOST_READ]:
            architecture = state.parsed(text)[0]
            self._fingerprints[text] = architecture.fingerprint if architecture else None
        if len(self._fingerprints) > 4 * _MOST_RUNS:
            self._fingerprints = {t: f for t, f in self._fingerprints.items() if t in texts}


def _text(run: Run) -> str:
    return str(run.spec.get("architecture", ""))


def _rank(run: Run) -> int:
    """Rank a running run before those that have ended, and a waiting one last: it has nothing to show yet."""
    return {RunState.RUNNING: 0, RunState.QUEUED: 2}.get(run.state, 1)


_trainings, _profiles = Trainings(), Trainings("profile")
