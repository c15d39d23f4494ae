"""The Train page's several tasks: chosen, checked and started; what they share and how they pull, while they learn."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RunState
from hybridlab.training.transfer import transfer
from hybridlab.ui import predictions
from tests.app.held import held, in_session

TEXT = "name: row\nwidth: 8\nnodes:\n  - {id: one, use: gru}\n  - {id: two, use: mlp}\n"
TASKS = {
    "of": [{"task": "digits_sequence"}, {"task": "digits_parity"}],
    "sampling": "joint",
    "balancing": "fixed",
}


def settings(visitor) -> dict[str, Any]:
    return dict(in_session(visitor.at, "settings.digits_sequence").get("tasks") or {})


@pytest.fixture
def opened(visitor):
    """The Train page with two questions beside the digit."""
    at = visitor.open("2_Train")
    (box,) = [box for box in at.multiselect if box.label == "Tasks learnt beside it"]
    assert set(box.options) >= {"Digits, odd or even", "Digits, strokes crossed"}
    assert not any("bytes" in option or "images" in option for option in box.options)
    visitor.give(box, ["digits_parity", "digits_strokes"])
    return visitor


def test_tasks_are_put_beside_the_chosen_one_and_go_into_the_run(opened, runs) -> None:
    (box,) = [box for box in opened.at.selectbox if box.label == "Balancing"]
    opened.give(box, "pcgrad")
    assert settings(opened)["balancing"] == "pcgrad" and "2001.06782" in opened.words()
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    (run,) = runs.store.list(kind="train")
    several = run.spec["training"]["tasks"]
    assert [part["task"] for part in several["of"]] == [
        "digits_sequence",
        "digits_parity",
        "digits_strokes",
    ]
    assert (several["sampling"], several["balancing"]) == ("joint", "pcgrad")
    assert run.name.endswith("digits_sequence + digits_parity + digits_strokes")


def test_the_tasks_own_settings_go_to_those_that_have_them_too(opened, runs) -> None:
    opened.give(held(opened.at.toggle, "train.digits_sequence.task.augment"), True)
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    (run,) = runs.store.list(kind="train")
    assert all(part["task_params"]["augment"] for part in run.spec["training"]["tasks"]["of"])


def test_balancing_by_gradients_takes_all_tasks_at_every_step(opened) -> None:
    (box,) = [box for box in opened.at.selectbox if box.label == "Sampling"]
    opened.give(box, "temperature")
    assert any(field.label == "Temperature" for field in opened.at.number_input)
    (box,) = [box for box in opened.at.selectbox if box.label == "Balancing"]
    opened.give(box, "cagrad")
    assert settings(opened)["sampling"] == "joint"
    (box,) = [box for box in opened.at.multiselect if box.label == "Tasks learnt beside it"]
    opened.give(box, [])
    assert not settings(opened)


def test_what_tasks_share_and_how_they_pull_is_shown(visitor, runs) -> None:
    run = runs.running("both", text=TEXT, task="digits_sequence", tasks=TASKS)
    at = visitor.open("2_Train", run=run.id)
    at.session_state[f"train.several.{run.id}"] = True
    at.run()
    visitor._whole()
    boxes = {b["path"]: b for b in visitor.component("train.several.diagram")["info"]["boxes"]}
    assert boxes["nodes[0]"]["detail"] == boxes["nodes[1]"]["detail"] == "shared by 2"
    assert boxes["task.head_digits_parity"]["detail"] == "only digits_parity"
    assert "has not been measured yet" in visitor.words()
    pair = "digits_sequence~digits_parity"
    values = {
        "task_loss/digits_sequence": 2.0,
        "task_loss/digits_parity": 0.7,
        "task_weight/digits_sequence": 1.0,
        "task_weight/digits_parity": 1.0,
        f"gradient_cosine/*/{pair}": 0.2,
        f"gradient_cosine/two/{pair}": -0.4,
    }
    points = [Point(6, name, value, 6.0) for name, value in values.items()]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=6, steps=10)
    visitor.until(lambda at: "pull against each other most in two" in visitor.words())
    charts = [chart.proto.spec for chart in visitor.at.get("plotly_chart")]
    assert any("in 1 of 1 shared parts" in chart for chart in charts)

    def titles(at) -> set[str]:
        return {panel["title"] for panel in visitor.component("chart.train")["panels"]}

    visitor.until(lambda at: {"Loss by task", "Weight by task"} <= titles(at))


def test_each_task_has_a_weight_and_balancing_its_own_settings(opened, runs) -> None:
    labels = [field.label for field in opened.at.number_input]
    assert sum(label.startswith("Weight of") for label in labels) == 3
    (weight,) = [n for n in opened.at.number_input if n.label == "Weight of Digits, odd or even"]
    opened.give(weight, 0.25)
    (box,) = [box for box in opened.at.selectbox if box.label == "Balancing"]
    opened.give(box, "gradnorm")
    (rate,) = [n for n in opened.at.number_input if n.label == "Gradnorm rate"]
    opened.give(rate, 0.1)
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    (run,) = runs.store.list(kind="train")
    several = run.spec["training"]["tasks"]
    assert [part["weight"] for part in several["of"]] == [1.0, 0.25, 1.0]
    assert (several["balancing"], several["gradnorm_rate"]) == ("gradnorm", 0.1)


def test_tasks_without_a_run_alone_are_trained_alone_at_a_click(visitor, runs) -> None:
    alike = {"text": TEXT, "batch": 4, "learning_rate": 0.1, "target": 0.9}
    both = {"test_accuracy_digits_sequence": 0.9, "test_accuracy_digits_parity": 0.8}
    runs.ended("alone", metrics={"test_accuracy": 0.85}, task="digits_parity", **alike)
    run = runs.ended("both", metrics=both, task="digits_sequence", tasks=TASKS, **alike)
    at = visitor.open("2_Train", run=run.id)
    at.session_state[f"train.several.{run.id}"] = True
    at.run()
    visitor._whole()
    visitor.press(f"train.alone.{run.id}")
    made = runs.store.list(kind="train", limit=1)[0]
    assert made.state is RunState.QUEUED and made.name == "both, digits_sequence alone"
    training = made.spec["training"]
    assert (training["task"], training["tasks"], training["target"]) == (
        "digits_sequence",
        None,
        None,
    )
    others = [run.spec["training"]["task"] for run in runs.store.list(states=[RunState.QUEUED])]
    assert others == ["digits_sequence"], "the other one has a run already"
    runs.store.leases.claim(made.id, "token", pid=1, birth="then", granted="cpu")
    result = {"metrics": {"test_accuracy": 0.95}, "steps": 10, "seconds": 1.0}
    runs.store.leases.finish(Lease(made.id, "token"), RunState.DONE, result=result)
    rows = transfer(runs.store.get(run.id), runs.store.list(kind="train"))
    assert [row.mean_alone for row in rows] == [0.95, 0.85], "what was started is what is compared"


def test_learnt_together_and_alone_stand_beside_each_other(visitor, runs) -> None:
    alike = {"text": TEXT, "batch": 4, "learning_rate": 0.1}
    both = {"test_accuracy_digits_sequence": 0.9, "test_accuracy_digits_parity": 0.8}
    for value in (0.85, 0.86):
        runs.ended("alone", metrics={"test_accuracy": value}, task="digits_parity", **alike)
    run = runs.ended("both", metrics=both, task="digits_sequence", tasks=TASKS, **alike)
    at = visitor.open("2_Train", run=run.id)
    at.session_state[f"train.several.{run.id}"] = True
    at.run()
    visitor._whole()
    words = visitor.words().replace("\\", "")
    assert "negative transfer, accuracy 0.8 with others, 0.855 alone (2 runs)" in words
    assert "there is no run on it alone" in words


def test_the_networks_picture_and_the_gradient_flow_have_all_heads(visitor, runs) -> None:
    run = runs.running("both", text=TEXT, task="digits_sequence", tasks=TASKS)
    points = [
        Point(6, f"grad_norm/{path}", norm, 6.0)
        for path, norm in {"one": 0.5, "head_digits_parity": 0.25}.items()
    ]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=6, steps=10)
    at = visitor.open("2_Train", run=run.id)
    for section in ("network", "flow"):
        at.session_state[f"train.{section}.{run.id}"] = True
    at.run()
    visitor._whole()
    boxes = {b["path"]: b for b in visitor.component("train.network.diagram")["info"]["boxes"]}
    assert boxes["task.head_digits_parity"]["detail"] == "0.25"
    visitor.until(lambda at: at.get("plotly_chart"))
    assert "head_digits_parity" in visitor.at.get("plotly_chart")[0].proto.spec


def test_time_and_memory_are_foretold_for_all_tasks_and_their_balancing(opened) -> None:
    from hybridlab.ui.train.estimate import Estimate, estimate
    from hybridlab.ui.train.several import settled

    text, task = "name: row\nwidth: 32\nnodes: [{use: gru}, {use: mlp}]\n", "digits_sequence"
    entry = next(e for e in predictions.tasks() if e["name"] == task)

    def told(**tasks: Any) -> Estimate:
        asked = {"tasks": {**TASKS, **tasks}} if tasks else {}
        made = settled({**asked, "task": task, "task_params": {}})
        found = estimate(text, entry, made, wait_s=60)
        assert not found.problems and not found.pending
        return found

    one, fixed, balanced = told(), told(balancing="fixed"), told(balancing="pcgrad")
    assert one.params < fixed.params == balanced.params
    assert one.seconds < fixed.seconds < balanced.seconds
    assert fixed.peak_bytes < balanced.peak_bytes
    other = {"of": [{"task": task}, {"task": "vowels_length"}]}
    made = settled({"tasks": other, "task": task, "task_params": {}})
    wrong = estimate(text, entry, made, wait_s=60)
    assert wrong.blocked and "reads other inputs" in wrong.problems[0].message


def test_a_number_is_drawn_in_its_own_measure_and_its_loss_is_not_in_nats() -> None:
    from hybridlab.ui.train.panels import panels

    entry = next(e for e in predictions.tasks() if e["name"] == "vowels_duration")
    loss, error = panels(entry, entry["val_metrics"])[:2]
    assert (loss.unit, error.unit) == ("", "values")
    assert error.title == "Validation mean absolute error" and error.range is None
    names = ["task_loss/a", "task_loss/b", "val_accuracy_a", "val_mean_abs_error_b"]
    by_title = {panel.title: panel for panel in panels(None, names)}
    assert by_title["Loss by task"].unit == ""
    assert by_title["Mean absolute error by task, each in its task's unit"].metrics == (
        "val_mean_abs_error_b",
    )
    assert panels(None, ["val_accuracy"])[0].unit == "nats"
