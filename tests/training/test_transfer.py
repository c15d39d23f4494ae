"""What learning together did for each task, from the records of finished runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hybridlab.runs.record import Run, RunState
from hybridlab.training.transfer import Row, transfer

TEXT = "name: t\nwidth: 8\nnodes:\n  - {use: lstm}\n"
PARAMS = {"length": 8}
TASKS = {
    "of": [{"task": "parity", "task_params": PARAMS}, {"task": "mqar", "name": "recall"}],
    "sampling": "each",
}


def _run(name: str, metrics: dict[str, float], text: str = TEXT, **training: Any) -> Run:
    settings = {"steps": 10, "batch": 4, "learning_rate": 0.1, **training}
    return Run(
        id=name,
        kind="train",
        name=name,
        state=RunState.DONE,
        owner="",
        created=0.0,
        started=None,
        ended=None,
        threads=1,
        device="cpu",
        spec={"architecture": text, "training": settings},
        step=10,
        steps=10,
        result={"metrics": metrics},
        error="",
        parent=None,
        cancel_requested=False,
        heartbeat=0,
        attempt=1,
        granted="cpu",
        home="",
        pid=None,
        birth="",
        lease="",
        truncations=0,
    )


BOTH = _run(
    "both",
    {
        "test_accuracy": 0.7,
        "test_accuracy_parity": 0.7,
        "test_accuracy_recall": 0.95,
        "test_accuracy_mean": 0.8,
    },
    task="parity",
    tasks=TASKS,
)


def _alone(name: str, value: float, task: str = "parity", **training: Any) -> Run:
    params = {"task_params": PARAMS} if task == "parity" else {}
    return _run(name, {"test_accuracy": value}, task=task, **{**params, **training})


def test_each_task_stands_beside_runs_on_it_alone() -> None:
    others = [
        BOTH,
        _alone("a", 0.8),
        _alone("b", 0.9, seed=1),
        _alone("c", 0.9, "mqar"),
        _alone("longer", 0.1, steps=20),
        _alone("taught", 0.1, teacher={"run": "x"}),
        _alone("staged", 0.1, stages=[{"name": "only"}]),
        _alone("other params", 0.1, task_params={"length": 9}),
        _alone("other design", 0.1, text=TEXT.replace("lstm", "gru")),
        replace(_alone("broken off", 0.1), state=RunState.CANCELLED),
        _alone("renamed", 0.85, text=TEXT.replace("name: t", "name: u")),
    ]
    parity, recall = transfer(BOTH, others)
    assert parity.alone == {"a": 0.8, "b": 0.9, "renamed": 0.85}
    assert parity.gain == pytest.approx(-0.15) and parity.beyond_chance
    assert "negative transfer" in parity.sentence() and "0.85 alone (3 runs)" in parity.sentence()
    assert recall.alone == {"c": 0.9} and recall.gain == pytest.approx(0.05)
    assert "positive transfer" in recall.sentence() and "may be chance" in recall.sentence()


def test_a_value_among_those_alone_is_no_difference() -> None:
    parity, recall = transfer(BOTH, [_alone("a", 0.6), _alone("b", 0.9)])
    assert "no difference" in parity.sentence()
    assert recall.gain is None and "no run on it alone" in recall.sentence()


def test_fewer_bits_are_better() -> None:
    row = Row("bytes", "test_bits_per_byte", 2.0, {"a": 2.5, "b": 2.4}, higher_is_better=False)
    assert row.gain == pytest.approx(0.45) and "positive transfer" in row.sentence()


@pytest.mark.parametrize(
    "run",
    [
        _alone("single", 0.9),
        replace(BOTH, result=None),
        replace(BOTH, spec={"architecture": "nodes: [", "training": BOTH.spec["training"]}),
    ],
)
def test_what_has_no_several_tasks_has_no_table(run: Run) -> None:
    assert transfer(run, [_alone("a", 0.8)]) == ()
