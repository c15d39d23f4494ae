"""The demonstration: its plan, how its state is told, and one real pair of runs through the supervisor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import SpecError
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import RunState
from hybridlab.runs.store import Store
from hybridlab.tasks.registry import fit, task
from hybridlab.training.spec import make
from hybridlab.workflows import demo


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    yield opened
    opened.close()


def test_pages_may_import_it_without_torch() -> None:
    code = "import sys, hybridlab.workflows.demo as d; d.plan(1); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_plan_is_six_fair_runs_with_the_hybrid_first() -> None:
    planned = demo.plan(2)
    assert [(one.task, one.model) for one in planned] == [
        (name, model) for name in ("parity", "mqar") for model in ("hybrid", "lstm", "attention")
    ]
    for name in demo.TASKS:
        settings = [one.spec["training"] for one in planned if one.task == name]
        assert settings[0] == settings[1] == settings[2], "every model gets the same budget"
        assert settings[0]["seed"] == 2 and settings[0]["device"] == "cpu"


def test_every_planned_run_can_start() -> None:
    uses = {}
    for one in demo.plan():
        spec = make(one.spec["training"])
        what = task(spec.task, **spec.task_params)
        fitted = fit(loads(one.spec["architecture"]), what)
        uses[one.model] = [node.use for node in fitted.nodes[1:-1]]
        assert demo.TASKS[one.task] in {what.metric_name(split) for split in what.test_splits}
    assert uses == {
        "hybrid": ["lstm", "attention"],
        "lstm": ["lstm", "lstm"],
        "attention": ["attention", "attention"],
    }
    attention = next(one for one in demo.plan() if one.model == "attention")
    assert "conv" not in attention.spec["architecture"].split("nodes:")[1]


def test_recall_and_parity_are_those_of_the_claim() -> None:
    params = {one.task: one.spec["training"]["task_params"] for one in demo.plan()}
    assert params["mqar"]["pairs"] == 8 and params["parity"]["longer"] == 96


def test_a_seed_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="seed"):
        demo.plan(-1)


def _six(store: Store) -> dict[str, dict[str, str]]:
    return {
        name: {model: store.create("train", model, {}, home="here").id for model in demo.MODELS}
        for name in demo.TASKS
    }


def _run(store: Store, run_id: str, state: RunState, accuracy: float, metric: str) -> None:
    store.leases.claim(run_id, "token", pid=1, birth="then")
    result = {"metrics": {metric: accuracy}, "steps": 400, "seconds": 12.0}
    done = state is RunState.DONE
    store.leases.finish(
        Lease(run_id, "token"), state, result=result if done else None, error="" if done else "no"
    )


def test_the_summary_tells_what_happened_and_never_more(store: Store) -> None:
    ids = _six(store)
    before = demo.summary(store, ids)
    assert before["active"] and not before["done"] and before["seconds"] == 0.0
    assert set(before["captions"]["mqar"].values()) == {"waits for a free core"}
    assert before["tasks"]["parity"] == {"hybrid": None, "lstm": None, "attention": None}
    for name, of in ids.items():
        for model, run_id in of.items():
            _run(
                store, run_id, RunState.DONE, 0.991 if model == "hybrid" else 0.13, demo.TASKS[name]
            )
    after = demo.summary(store, ids)
    assert after["done"] and not after["active"] and after["seconds"] >= 0.0
    assert after["tasks"]["mqar"] == {"hybrid": 0.991, "lstm": 0.13, "attention": 0.13}
    assert after["captions"]["parity"]["hybrid"] == "solved in 12 s"
    assert after["captions"]["parity"]["attention"] == "budget of 400 steps reached at 13%"
    assert after["runs"] == ids and after["budget_s"] == demo.BUDGET_S
    assert "cannot" not in str(after)


def test_a_failed_run_is_not_a_result(store: Store) -> None:
    ids = _six(store)
    _run(store, ids["mqar"]["lstm"], RunState.FAILED, 0.0, "test_accuracy")
    found = demo.summary(store, ids)
    assert found["tasks"]["mqar"]["lstm"] is None and not found["done"] and found["active"]
    assert found["states"]["mqar"]["lstm"] == "FAILED"
    assert found["captions"]["mqar"]["lstm"] == "failed: no"
