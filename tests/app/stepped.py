"""The small step of a preset that tests of the Memory page look at, and the runs that measured it."""

from __future__ import annotations

import json
from typing import Any

from hybridlab.architecture import library
from hybridlab.architecture.complete import complete
from hybridlab.architecture.document import loads
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import predictions
from hybridlab.workflows import predict_worker

PRESET = "lstm_attention_mini"
TEXT = library.find(PRESET).read_text(encoding="utf-8")
BATCH = 64
TRAINING = {"task_params": {"length": 48, "longer": 48}, "batch": BATCH, "device": "cpu"}


def fingerprint() -> str:
    """Return that of the preset as it is trained on the task."""
    task = predictions.task("parity")
    assert task is not None
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    whole = complete(loads(TEXT), task["input_node"], task["head_node"], kinds.get)
    return whole.fingerprint


def left_behind(runs: Any, run: Run, name: str, content: Any) -> None:
    """End a run as its worker would have, with a file of figures."""
    run_folder(run.id).mkdir(parents=True, exist_ok=True)
    (run_folder(run.id) / name).write_text(json.dumps(content))
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})


def sorted_batches(counts: list[int]) -> Any:
    """Answer as a warm process does, about a design that is small, and a task whose samples are of several lengths."""
    settings = {"task": "parity", "task_params": {"length": 16, "min_length": 3}, "batch": 4}
    args = {
        "text": "name: small\nwidth: 8\nnodes: [{use: mlp}]\n",
        "settings": settings,
        "counts": counts,
    }
    told = predict_worker.answer(json.dumps({"id": 1, "verb": "buckets", "args": args}))
    return told["value"]
