"""The Train page's stages: suggested, read from a table's rows, checked, and told beside a run's steps."""

from __future__ import annotations

import pandas as pd
import pytest

from hybridlab.architecture import library
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.ui.train.stages import _frame, _taken
from tests.app.held import in_session, put_in_session

TEXT = library.find("lstm_attention_mini").read_text(encoding="utf-8")
STAGES = [
    {"name": "easy", "until": {"steps": 3}, "task_params": {"length": 4}},
    {"name": "hard"},
]


def settings(visitor) -> list[dict[str, object]]:
    kept = in_session(visitor.at, "settings.parity")
    return list(kept.get("stages", ()))


def test_a_suggestion_goes_from_easy_to_hard_and_into_the_run(opened, runs) -> None:
    opened.press("train.stages.suggest")
    stages = settings(opened)
    (name,) = stages[0]["task_params"]
    lengths = [stage.get("task_params", {}).get(name) for stage in stages]
    assert len(stages) == 3 and 2 * lengths[0] <= lengths[1] and lengths[2] is None
    assert "Stages (3)" in [expander.label for expander in opened.at.expander]
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    (run,) = runs.store.list(kind="train")
    found = run.spec["training"]["stages"]
    assert [stage["name"] for stage in found] == [stage["name"] for stage in stages]
    assert found[0]["until"]["train_accuracy"] == 0.9 and found[2]["until"] is None


def test_rows_are_stages_and_what_has_no_column_stays() -> None:
    now = [
        {
            "name": "a",
            "until": {"steps": 5, "train_accuracy": 0.9, "window": 7},
            "task_params": {"length": 4, "noisy": True},
            "new_repeats": "drawn",
        },
        {
            "name": "b",
            "grow": {"stage": 2},
            "freeze": "stage.0.*",
            "open": {"ssm": 30, "*.attn": 2},
        },
    ]
    frame = _frame(now)
    assert _taken(frame, now) == (now, [])
    assert (frame["window"].iloc[0], frame["new_repeats"].iloc[0]) == (7, "drawn")
    assert frame["task_params"].iloc[0] == "length: 4, noisy: true"
    more = pd.concat(
        [frame, pd.DataFrame([{"name": "c", "task_params": "pairs: 2, kinds: [1, 2]"}])]
    )
    taken, problems = _taken(more, now)
    assert not problems
    assert taken[2] == {"name": "c", "task_params": {"pairs": 2, "kinds": [1, 2]}}


@pytest.mark.parametrize("written", ["pairs", "pairs:", "pairs: 2}", "{", "1: 2", "[a, b]"])
def test_what_cannot_be_read_is_told_by_its_place(written: str) -> None:
    frame = _frame([{"name": "a", "task_params": {"pairs": 2}}])
    frame["task_params"] = [written]
    _, (problem,) = _taken(frame, [])
    assert problem.path == "stages[0].task_params" and problem.got == written


def test_what_does_not_go_with_task_or_design_is_told_beside_the_stages_before_the_start(
    opened, runs
) -> None:
    opened.press("train.stages.suggest")
    kept = in_session(opened.at, "settings.parity")
    first, *others = kept["stages"]
    wrong = {**first, "task_params": {"pairs": 3}, "grow": {"nowhere": 1}}
    put_in_session(opened.at, "settings.parity", {**kept, "stages": [others[0], wrong, others[-1]]})
    opened.at.run()
    opened.until(lambda at: opened.button("Start training").disabled)
    told = [error.value.replace("\\", "") for error in opened.at.error]
    of_task = [words for words in told if f"Stage {wrong['name']}, Task" in words]
    assert len(of_task) == 2, "beside the table, and above the button"
    assert any(f"Stage {wrong['name']}, Add repeats" in words for words in told)
    assert not any("stages[" in words for words in told)


def test_a_run_says_its_stage_beside_its_steps(visitor, runs) -> None:
    run = runs.running("staged", step=2, text=TEXT, stages=STAGES)

    def said() -> str:
        return " ".join(element.proto.text for element in visitor.at.get("progress"))

    visitor.open("2_Train", run=run.id)
    assert "Step 2 of 10, stage easy (1 of 2)" in said()
    assert visitor.component("chart")["runs"][0]["stages"] == ["easy", "hard"]
    border = [Point(3, "stage", 1.0, 0.2)]
    runs.store.leases.beat(Lease(run.id, "token"), border, step=4, steps=10)
    visitor.until(lambda at: "Step 4 of 10, stage hard (2 of 2)" in said())
