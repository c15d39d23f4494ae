"""What the canvas is told beside the design: which edits Python has, and what a training measured of its components."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import state
from hybridlab.ui.canvas.component import desk_of
from hybridlab.ui.live.reader import Reader, reader

SINGLE = ("grad_norm", "update_ratio")
LOAD = "expert_load"
_MOST_RUNS = 50
"""So many of the newest trainings are looked at."""
_MOST_READ = 2
"""So many texts are read at one look: reading takes some milliseconds, and the others come at the next."""
_LIVE_S, _IDLE_S = 1.0, 5.0
_EVERY_S = 0.8
"""The list of runs is asked for at most this often, however many sessions look."""
_channel = st.components.v2.component(
    "hybridlab_canvas_measured",
    js=Path(__file__).with_name("measured.js").read_text(encoding="utf-8"),
    css=(
        '[data-testid="stLayoutWrapper"]:has(> .st-key-canvas_told),\n'
        ".st-key-canvas_told { display: none; }\n"
    ),
    isolate_styles=False,
)


def measured(design: state.Design) -> None:
    """Keep the canvas told, first of all that its edits have come; only this little part of the page is drawn again.

    Every second while the design trains; otherwise now and then, since thirty idle designers are no reason to keep a
    core busy.
    """
    drawn = _told(design)
    live = _live(drawn)

    def send() -> None:
        nonlocal drawn
        told, drawn = drawn or _told(design), {}
        _send(told, live)

    st.fragment(send, run_every=_LIVE_S if live else _IDLE_S)()


def _told(design: state.Design) -> dict[str, Any]:
    desk = desk_of(design)
    taken = {"acknowledged": dict(desk.acknowledged), "taken_ms": 1e3 * desk.taken_s}
    return message(design, desk.seed) | taken


def _send(told: dict[str, Any], drawn_live: bool) -> None:
    _channel(key="design.measured", data=told, height=1)
    if _live(told) != drawn_live:
        st.rerun()


def _live(told: Mapping[str, Any]) -> bool:
    return told["run"] is not None and RunState(told["run"]["state"].upper()).active


def message(design: state.Design, seed: str) -> dict[str, Any]:
    """Return the run and the values by quantity and address, for the canvas of that seed; no run where none trained it.

    The values of a text that cannot be read, or of a store that cannot be read now, are none.
    """
    about: dict[str, Any] = {"seed": seed, "revision": design.revision}
    nothing = about | {"run": None, "values": {}}
    architecture = state.parsed(design.text)[0]
    if architecture is None:
        return nothing
    try:
        run = _trainings.of(architecture.fingerprint, design.text)
        if run is None:
            return nothing
        source = reader(run.id)
        run = source.look()
    except HybridLabError:  # the store cannot be read now: the pages of the runs say why
        return nothing
    training = run.spec.get("training")
    task = str(training.get("task", "")) if isinstance(training, Mapping) else ""
    step, found = values(source)
    told = {"id": run.id, "name": run.name, "state": run.state.lower(), "task": task}
    return about | {"run": told | {"step": step, "steps": run.steps}, "values": found}


def values(source: Reader) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the newest step at which components were measured, and what by quantity and address.

    Addresses are those of the canvas, where a group's repeats are one; loads are lists, one share an expert.
    """
    found: dict[str, dict[str, Any]] = {}
    newest = 0
    for name, value in source.latest().items():
        quantity, _, rest = name.partition("/")
        if quantity in SINGLE and _of_canvas(rest):
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
    """Finds the training of a design; shared by all sessions, so that the store is asked once for all."""

    def __init__(self) -> None:
        """Set up; nothing is read yet."""
        self._lock = threading.Lock()
        self._looked = -_EVERY_S
        self._runs: list[Run] = []
        self._fingerprints: dict[str, str | None] = {}

    def of(self, fingerprint: str, text: str) -> Run | None:
        """Return the training of the architecture that this text describes: a running one first, then the newest.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock:
            self._look()
            self._fingerprints[text] = fingerprint
            self._read()
            known = self._fingerprints
            matching = [run for run in self._runs if known.get(_text(run)) == fingerprint]
        return min(
            matching, key=_rank, default=None
        )  # the newest of the best rank: they come newest first

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _EVERY_S:
            self._runs = open_store().list(kind="train", limit=_MOST_RUNS)
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


_trainings = Trainings()
