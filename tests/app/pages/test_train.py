"""The Train page: choosing and estimating, starting, and one run from queued to done."""

from __future__ import annotations

import re

import pytest

from hybridlab.architecture import edit, library
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RunState
from tests.app.held import held

TEXT = library.find("lstm_attention_mini").read_text(encoding="utf-8")
UNKNOWN = "0123456789ab"


def estimated(at) -> bool:
    return bool(at.metric) and at.metric[0].value != "–"


def seconds(written: str) -> float:
    value, unit = written.split()
    return float(value) * {"ms": 1e-3, "s": 1.0}[unit]


def test_the_form_has_the_tasks_defaults_and_an_estimate(visitor) -> None:
    at = visitor.open("2_Train")
    assert [title.value for title in at.title] == ["Train"]
    assert held(at.selectbox, "choice.train_source").value == "preset hymba_mini"
    assert held(at.selectbox, "choice.train_task").value == "digits_sequence"
    assert held(at.number_input, "train.digits_sequence.steps").value >= 100
    at = visitor.until(estimated)
    assert re.fullmatch(r"\d.* (ms|s|h|min).*", at.metric[0].value)
    assert at.metric[1].value.endswith("MiB")
    assert re.search(r"\d k parameters, with the task's input and head", visitor.words())
    assert not visitor.button("Start training").disabled


def test_another_task_brings_its_own_settings_and_keeps_the_first_ones(visitor) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.number_input, "train.digits_sequence.steps"), 123)
    visitor.give(held(at.selectbox, "choice.train_task"), "parity")
    assert "train.parity.steps" in [n.key for n in at.number_input]
    assert "train.digits_sequence.steps" not in [n.key for n in at.number_input]
    at = visitor.give(held(at.selectbox, "choice.train_task"), "digits_sequence")
    assert held(at.number_input, "train.digits_sequence.steps").value == 123
    at = visitor.press("Back to the task's defaults")
    assert held(at.number_input, "train.digits_sequence.steps").value != 123


def test_twice_the_steps_take_twice_the_time(visitor) -> None:
    at = visitor.open("2_Train")
    visitor.until(estimated)
    visitor.give(held(at.number_input, "train.digits_sequence.steps"), 1)
    one = seconds(visitor.until(estimated).metric[0].value)
    visitor.give(held(at.number_input, "train.digits_sequence.steps"), 2)
    two = seconds(visitor.until(estimated).metric[0].value)
    assert two == pytest.approx(2 * one, rel=0.02)


def test_start_queues_exactly_what_the_form_said(visitor, runs) -> None:
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_source"), "preset lstm_attention_mini")
    visitor.give(held(at.selectbox, "choice.train_task"), "parity")
    visitor.give(held(at.number_input, "train.parity.steps"), 7)
    visitor.until(estimated)
    visitor.press("Start training")
    (run,) = runs.store.list()
    assert run.state is RunState.QUEUED
    assert run.name == "lstm-attention-mini on parity"
    assert run.spec["architecture"] == TEXT
    assert run.spec["preset"] == "lstm_attention_mini"
    assert run.spec["training"]["task"] == "parity"
    assert run.spec["training"]["steps"] == 7
    assert r"lstm\-attention\-mini on parity" in visitor.words()
    assert visitor.at.query_params["run"] == run.id, "the address can be opened again"


def test_a_design_that_does_not_fit_cannot_be_started(visitor) -> None:
    library.save_design("wrong", edit.set_parameter(TEXT, "nodes[1]", "heads", 5))
    at = visitor.open("2_Train")
    visitor.give(held(at.selectbox, "choice.train_source"), "saved wrong")
    at = visitor.until(lambda at: at.error)
    assert any("heads" in error.value for error in at.error)
    assert visitor.button("Start training").disabled


@pytest.mark.parametrize("run_id", [UNKNOWN, "../../etc/passwd", "<img src=x>"])
def test_a_run_that_is_not_there_is_told_with_a_way_out(visitor, run_id) -> None:
    at = visitor.open("2_Train", run=run_id)
    assert len(at.error) == 1
    assert "there is no such run" in at.error[0].value
    assert not re.search(r"(?<!\\)<img", at.error[0].value)
    at = visitor.press("Set up a training")
    assert [title.value for title in at.title] == ["Train"]


def test_a_queued_run_says_its_place_and_can_be_cancelled(visitor, runs) -> None:
    runs.queued("before")
    run = runs.queued("mine")
    visitor.open("2_Train", run=run.id)
    progress = [e.proto.text for e in visitor.at.get("progress")]
    assert progress == ["Number 2 in the queue; it starts when the runs before it have ended"]
    visitor.press("Cancel")
    assert runs.store.get(run.id).state is RunState.CANCELLED


def test_a_running_run_shows_progress_time_left_and_its_points(visitor, runs) -> None:
    run = runs.running("mine", step=5, steps=20)
    visitor.open("2_Train", run=run.id)
    (progress,) = visitor.at.get("progress")
    assert progress.proto.value == 25
    assert progress.proto.text == "Step 5 of 20, about 15 s left at this pace"
    panels = visitor.component("chart.train")["panels"]
    assert panels[0]["title"] == "Training loss"
    assert panels[0]["unit"] == "nats"
    part = visitor.component("feed.train")["parts"][run.id]
    assert part["points"]["loss"][1:] == [[1, 2, 3, 4, 5], [1.0, 0.5, 1 / 3, 0.25, 0.2]]
    assert ":blue-badge[:material/play_circle: running]" in visitor.words()


def test_going_back_by_itself_is_allowed_on_the_page_and_told(visitor, runs) -> None:
    at = visitor.open("2_Train")
    for name in ("rollbacks", "rollback_rate"):
        assert held(at.number_input, f"train.digits_sequence.{name}").label
    visitor.give(held(at.number_input, "train.digits_sequence.rollbacks"), 2)
    visitor.give(held(visitor.at.toggle, "train.digits_sequence.deterministic"), True)
    visitor.until(estimated)
    visitor.press("Start training")
    (run,) = runs.store.list()
    training = run.spec["training"]
    assert (training["rollbacks"], training["deterministic"]) == (2, True)
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    told = {"rollbacks": 1.0, "rate_factor": 0.5, "loss_spike": 3.2}
    points = [Point(4, name, value, 1.0) for name, value in told.items()]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=4, steps=10)
    visitor.until(lambda at: len(at.warning) == 2)
    back, spike = (warning.value for warning in visitor.at.warning)
    assert "once of at most 2" in back and "times 0.5" in back
    assert "3.2 times what it was" in spike


def test_a_finished_run_shows_its_result_beside_what_needs_no_learning(visitor, runs) -> None:
    run = runs.ended("mine", metrics={"test_accuracy_96": 0.875, "test_accuracy": 0.9}, text=TEXT)
    (run_folder(run.id) / "log.txt").write_text("all went well\n")
    at = visitor.open("2_Train", run=run.id)
    shown = {m.label: m.value for m in at.metric}
    assert shown == {
        "Test accuracy 96": "0.875",
        "Test accuracy": "0.9",
        "Steps": "10",
        "Time": "2.5 s",
    }
    assert "Ended because: target reached." in visitor.words()
    assert "all went well" in visitor.words()
    (chart,) = at.get("plotly_chart")
    assert "beats what needs no learning" in chart.proto.spec
    assert not visitor.at.get("progress")
    at = visitor.press("Open in designer")
    assert visitor.design.text == TEXT
    assert [s.value for s in at.subheader] == [r"lstm\-attention\-mini"]


def test_a_failed_run_says_why_as_text_and_can_be_resumed(visitor, runs) -> None:
    error = "the loss is <b>nan</b> at step 5\nTraceback: line two"
    run = runs.ended("mine", RunState.FAILED, error=error)
    at = visitor.open("2_Train", run=run.id)
    assert [e.value for e in at.error] == [r"the loss is \<b\>nan\</b\> at step 5"]
    assert error in [c.value for c in at.code]
    visitor.press("Resume")
    assert runs.store.get(run.id).state is RunState.QUEUED


def test_html_in_the_name_of_a_run_is_shown_as_text(visitor, runs) -> None:
    run = runs.ended("<img src=x> *bold*", metrics={})
    at = visitor.open("2_Train", run=run.id)
    assert [s.value for s in at.subheader] == [r"\<img src=x\> \*bold\*"]
    assert not re.search(r"(?<!\\)<img", visitor.words())


def test_runs_under_way_are_listed_beside_the_form(visitor, runs) -> None:
    run = runs.running("busy one")
    runs.ended("old one", metrics={})
    visitor.open("2_Train")
    assert "**Under way**" in visitor.words()
    assert "old one" not in visitor.words()
    at = visitor.press(f"watch.{run.id}")
    assert [s.value for s in at.subheader] == ["busy one"]


def test_the_network_is_shown_with_what_is_measured_of_it(visitor, runs) -> None:
    text = library.find("jamba_mini").read_text(encoding="utf-8")
    run = runs.running("mine", text=text, task="python_bytes")
    at = visitor.open("2_Train", run=run.id)
    at.session_state[f"train.network.{run.id}"] = True
    at.run()
    visitor._whole()
    assert "The first values come some steps after the training has begun" in visitor.words()
    values = {"grad_norm/stage.mamba2": 0.02, "grad_norm/stage.moe": 2.0}
    values |= {"expert_load/stage.moe/0": 0.75, "expert_load/stage.moe/1": 0.25}
    points = [Point(6, name, value, 6.0) for name, value in values.items()]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=6, steps=10)
    at = visitor.until(lambda at: "*measured* at step 6" in visitor.words())
    boxes = {
        box["path"]: box for box in visitor.component("train.network.diagram")["info"]["boxes"]
    }
    assert (boxes["nodes[0].nodes[0]"]["detail"], boxes["nodes[0].nodes[0]"]["tint"]) == (
        "0.02",
        0.04,
    )
    assert boxes["nodes[0].nodes[3]"]["tint"] == 1.0
    at = visitor.give(at.button_group(key="train.quantity"), "expert_load")
    boxes = {
        box["path"]: box for box in visitor.component("train.network.diagram")["info"]["boxes"]
    }
    assert boxes["nodes[0].nodes[3]"]["detail"] == "75 25 %"
    visitor.give(at.button_group(key="train.quantity"), "update_ratio")
    assert "The first values come" in visitor.words()


def test_the_gradient_flow_is_shown_and_a_remedy_opens_the_next_run(visitor, runs) -> None:
    text = "name: row\nwidth: 8\nnodes:\n  - {id: one, use: gru}\n  - {id: two, use: mlp, residual: none}\n"
    run = runs.running("mine", text=text, task="parity")
    at = visitor.open("2_Train", run=run.id)
    at.session_state[f"train.flow.{run.id}"] = True
    at.run()
    visitor._whole()
    assert "The first values come some steps after the training has begun" in visitor.words()
    norms = {"token_embedding": 0.1, "one": 0.1, "two": 1e-7, "classifier": 0.1}
    points = [
        Point(step, f"grad_norm/{path}", norm, 6.0)
        for step in (6, 7, 8)
        for path, norm in norms.items()
    ]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=8, steps=10)
    sentence = "two: gradient 1,000,000 times smaller than its neighbours' for 2 steps (measured)"
    at = visitor.until(lambda at: sentence in visitor.words().replace("\\", ""))
    heat, ratio = (chart.proto.spec for chart in at.get("plotly_chart")[-2:])
    assert "Gradient norm at step 8" in heat and "times the smallest at step 8" in ratio
    remedy = next(b for b in at.button if b.key and b.key.endswith(".norm"))
    at = visitor.press(remedy.key)
    assert [title.value for title in at.title] == ["Train"]
    assert "residual: pre" in visitor.design.text
    name = next(field for field in at.text_input if field.label == "Name of the run")
    assert name.value == "mine · Norm before, residual around"


def test_the_address_names_the_preset_that_a_page_opens_with(visitor) -> None:
    visitor.open()
    for page in ("2_Train", "4_Profile", "5_Memory"):
        at = visitor.open(page, preset="griffin_mini")
        assert next(box for box in at.selectbox if box.label == "Architecture").value == (
            "preset griffin_mini"
        )
        assert "preset" not in at.query_params
    at = visitor.open("2_Train", preset="griffon_mini")
    assert any("there is no such preset" in error.value for error in at.error)
    assert next(box for box in at.selectbox if box.label == "Architecture").value == (
        "preset griffin_mini"
    )
