"""Decides what a session's live chart is sent: everything at first, then what is new."""

from __future__ import annotations

from typing import Any

from hybridlab.ui import state
from hybridlab.ui.live.component import Panel, feed
from hybridlab.ui.live.reader import reader

BORDERS = "stage"
"""The metric whose points are the borders of a training's stages, drawn on all of its charts."""
_MOST_FULL = 800
_MOST_NEW = 200
_FULL_MESSAGES = 2
"""So many messages carry everything at first: of two that are not sent yet only the later one arrives."""
_OVERLAP = 3
"""Each message repeats the points of the messages before it: the server may join two that are not sent yet."""


def begin(channel: str) -> None:
    """Let the next message of a channel carry everything, since the browser's chart may be new."""
    before = state.keep(_key(channel), _nothing_sent())
    state.put(_key(channel), _nothing_sent() | {"number": before["number"]})


def send(channel: str, panels: list[Panel], run_ids: list[str]) -> None:
    """Send what is new on the runs of a channel; call it from a fragment that runs every second."""
    sent = state.keep(_key(channel), _nothing_sent())
    generation = [reader(run_id).generation for run_id in run_ids]
    if generation != sent["generation"]:
        sent["full"] = _FULL_MESSAGES
    full = sent["full"] > 0
    names = frozenset({BORDERS, *(name for panel in panels for name in panel.metrics)})
    parts: dict[str, Any] = {}
    for run_id in run_ids:
        marks: list[int] = [] if full else sent["sent"].get(run_id, [])
        after = marks[0] if marks else 0
        last, points = reader(run_id).since(after, names, _MOST_FULL if full else _MOST_NEW)
        parts[run_id] = {"after": after, "last": last, "points": points}
        sent["sent"][run_id] = [*marks, last][-_OVERLAP:]
    sent |= {
        "number": sent["number"] + 1,
        "full": max(0, sent["full"] - 1),
        "generation": generation,
    }
    message = {"number": sent["number"], "full": full, "generation": generation, "parts": parts}

    def lost() -> None:
        sent["full"] = _FULL_MESSAGES

    feed(channel, {**message, "generation": str(generation)}, lost)


def _nothing_sent() -> dict[str, Any]:
    return {"number": 0, "sent": {}, "full": _FULL_MESSAGES, "generation": None}


def _key(channel: str) -> str:
    return f"live.{channel}"
