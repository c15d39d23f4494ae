"""The Memory page with a small step of a preset on it, for its tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.architecture import library
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.ui.memory import caches, fit, look, timeline

PRESET = "lstm_attention_mini"
TEXT = library.find(PRESET).read_text(encoding="utf-8")
BATCH = 64
TRAINING = {"task_params": {"length": 48, "longer": 48}, "batch": BATCH, "device": "cpu"}


def titles(at: Any) -> list[str]:
    return [json.loads(c.proto.spec)["layout"]["title"]["text"] for c in at.get("plotly_chart")]


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for answers where a page would draw again and again until they are there."""
    for module in (look, timeline, fit, caches):
        monkeypatch.setattr(module, "_PATIENCE_S", 60.0)


def open_planned(visitor: Any) -> Any:
    """Open the page with a small step of a preset on it, traced and solved."""
    visitor.open()
    state = visitor.at.session_state["hybridlab"]
    state["train_source"], state["train_task"] = f"preset {PRESET}", "parity"
    state["settings.parity"] = {"batch": BATCH}
    state["task_params.parity"] = TRAINING["task_params"]
    visitor.open("5_Memory")
    visitor.until(lambda at: len(at.get("plotly_chart")) == 2)
    return visitor


def left_behind(runs: Any, run: Run, name: str, content: Any) -> None:
    """End a run as its worker would have, with a file of figures."""
    run_folder(run.id).mkdir(parents=True, exist_ok=True)
    (run_folder(run.id) / name).write_text(json.dumps(content))
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
