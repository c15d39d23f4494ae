"""The Memory page: a step's memory, the curve, a budget and its plan, its measurement, and training with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.record import Figures, Plan
from hybridlab.runs.home import home_id
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import accelerators
from hybridlab.ui import predictions
from hybridlab.ui.worker_pool import Answer
from tests.app.held import in_session
from tests.app.stepped import BATCH, PRESET, TEXT, TRAINING, left_behind, sorted_batches

pytestmark = pytest.mark.usefixtures("patience")


def titles(at: Any) -> list[str]:
    return [json.loads(c.proto.spec)["layout"]["title"]["text"] for c in at.get("plotly_chart")]


def typed(visitor: Any, text: str) -> Any:
    (field,) = [field for field in visitor.at.text_input if field.label == "or type it"]
    visitor.give(field, text)
    return visitor.until(lambda at: len(at.get("plotly_chart")) == 2)


def measured(runs: Any, plan: Plan) -> Run:
    """Put a measurement of a plan into the store as its worker would have left it."""
    training = {"task": "parity", **TRAINING}
    spec = {"architecture": TEXT, "training": training, "preset": PRESET, "plan": plan.as_dict()}
    run: Run = runs.store.create("plan", "measured", spec, home=home_id())
    figures = Figures(peak_bytes=plan.predicted.peak_bytes, step_ms=9.0)
    plain = Figures(peak_bytes=plan.plain.peak_bytes, step_ms=8.0)
    content = {
        "plan": plan.model_copy(update={"measured": figures}).as_dict(),
        "plain_measured": plain.model_dump(),
    }
    left_behind(runs, run, "plan.json", content)
    return run


def test_a_budget_is_set_planned_applied_and_trained_with(
    planned: Any, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = planned.at
    assert "None yet. Set a budget below" in planned.words()
    said = "memory: not measured: no accelerator: on a CPU" in planned.words()
    assert said is not bool(accelerators())
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["As it is, predicted"] == shown["Your plan, predicted"]
    assert shown["Peak, measured"] == "not yet"
    assert planned.button("memory.train").disabled
    curve, over_time = titles(at)
    assert "stays as it is (predicted)" in curve and "Of the peak of" in over_time
    (slider,) = at.slider
    assert slider.max == slider.value > slider.min

    at = typed(planned, "1 B")
    assert "held by" in planned.words() and "the smallest plan instead" in planned.words()
    at = typed(planned, "much")
    assert any("not an amount of memory" in error.value for error in at.error)
    at = typed(planned, "100%")
    assert not at.error
    (slider,) = at.slider
    planned.give(slider, slider.min)
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "less memory for" in titles(at)[0]
    boxes = planned.component("diagram")["info"]["boxes"]
    assert any(box["tint"] for box in boxes)
    assert all(box["detail"] for box in boxes if box["kind"] != "group")
    (table,) = [frame.value for frame in at.dataframe]
    assert set(table["plan"]) >= {"kept", "again, run 1"}
    assert {"kept_bytes", "forward_ms", "again_ms"} <= set(table)
    labels = [button.proto.label for button in at.get("download_button")]
    assert {"Plan (JSON)", "Settings (YAML)", "HTML", "CSV", "Parquet"} <= set(labels)

    planned.press("memory.measure")
    (run,) = runs.store.list(kind="plan")
    plan = Plan.read(run.spec["plan"])
    assert plan.recompute and run.threads == 1 and run.spec["training"]["batch"] == BATCH
    assert any("Queued" in bar.proto.text for bar in planned.at.get("progress"))
    planned.press("Cancel")
    planned.until(lambda at: "This measurement was cancelled" in planned.words())

    done = measured(runs, plan)
    at = planned.open("5_Memory", run=done.id)
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    shown = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert shown["Step, measured"][0] == "9 ms" and "12.5 % slower" in shown["Step, measured"][1]
    assert "+0.00 % off" in shown["Peak, measured"][1]
    names = [trace["name"] for trace in json.loads(at.get("plotly_chart")[0].proto.spec)["data"]]
    assert "with a plan, measured" in names and "as it is, measured" in names

    planned.give(at.selectbox(key=f"memory.{done.id}.fit.card"), "an amount that I type")
    planned.give(planned.at.text_input(key=f"memory.{done.id}.fit.typed"), "30 MiB")
    planned.press(f"memory.{done.id}.fit.start")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 3)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["Largest as it is, predicted"].startswith("batch ")
    assert "% a sample" in shown["The largest with a plan costs, predicted"]
    assert "Plans fit" in titles(at)[2]

    planned.give(at.number_input(key=f"memory.{done.id}.caches.batch"), 2)
    longest = planned.at.button_group(key=f"memory.{done.id}.caches.longest")
    planned.give(longest, 256)
    planned.press(f"memory.{done.id}.caches.start")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 4)
    assert "of caches after 256 positions" in titles(at)[3]
    (table,) = [frame.value for frame in at.dataframe if "cache" in frame.value]
    lstm = table[table["use"] == "lstm"].iloc[0]
    shown = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert shown["Begun from a kept state"] == ("7 of 8", "96 of 128 positions alike")
    assert "Making room moves" in planned.words()
    assert lstm["256 predicted (bytes)"] == lstm["256 measured (bytes)"] > 0

    assert any("all samples of parity are 48 long" in info.value for info in at.info)
    assert not [button for button in at.button if str(button.key).endswith("sort.start")]

    planned.press(f"memory.{done.id}.train")
    assert in_session(planned.at, "settings.parity")["plan"]["recompute"]
    assert "Memory plan" in planned.words() and "bit for bit" in planned.words()
    assert not [error.value for error in planned.at.error]
    planned.press("train.plan.remove")
    assert "plan" not in in_session(planned.at, "settings.parity")

    monkeypatch.setattr(predictions, "buckets", lambda *asked: Answer(sorted_batches(asked[2])))
    monkeypatch.setattr(predictions, "not_sorted", lambda *asked: Answer(""))
    planned.open("5_Memory", run=done.id)
    planned.give(planned.at.button_group(key=f"memory.{done.id}.sort.most"), 2)
    planned.press(f"memory.{done.id}.sort.start")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 3)
    assert "(measured)" in titles(at)[2]
    (table,) = [frame.value for frame in at.dataframe if "sorted together" in frame.value]
    assert list(table["sorted together"]) == ["none", "1", "2"] and (table["step (ms)"] > 0).all()
    planned.give(planned.at.button_group(key=f"memory.{done.id}.sort.chosen"), 1)
    planned.press(f"memory.{done.id}.sort.train")
    assert in_session(planned.at, "settings.parity")["buckets"] == 1
    (told,) = [error.value for error in planned.at.error]
    assert "all samples of parity are 48 long" in told


def test_what_is_not_planned_is_told(visitor: Any) -> None:
    visitor.open()
    state = visitor.at.session_state["hybridlab"]
    state["train_source"], state["train_task"] = f"preset {PRESET}", "parity"
    stages = [{"name": "small", "until": 1}, {"name": "large", "grow": {"stage": 1}}]
    state["settings.parity"] = {"stages": stages, "batch": 4}
    visitor.open("5_Memory")
    visitor.until(lambda at: len(at.error) == 1)
    assert "is not planned" in visitor.at.error[0].value


def test_a_plan_of_another_design_is_told_on_the_train_page(opened: Any) -> None:
    figures = Figures(peak_bytes=9, step_ms=1.0)
    plan = Plan(
        fingerprint="x", components=("a",), batch=4, length=8, predicted=figures, plain=figures
    )
    opened.at.session_state["hybridlab"]["settings.parity"] = {"plan": plan.as_dict()}
    opened.open("2_Train")
    assert any("made for another architecture" in error.value for error in opened.at.error)
    opened.at.session_state["hybridlab"]["settings.parity"] = {"plan": {"version": 7}}
    opened.open("2_Train")
    assert any("plan" in error.value for error in opened.at.error)


def test_a_fusion_of_another_design_is_told_on_the_train_page(opened: Any) -> None:
    fusion = Fusion(fingerprint="x", training=True, products=(("a", "b"),))
    opened.at.session_state["hybridlab"]["settings.parity"] = {"fusion": fusion.as_dict()}
    opened.open("2_Train")
    assert any("measured for another architecture" in error.value for error in opened.at.error)
    assert "2 linear maps run as 1 product." in opened.words()
    opened.press("train.fusion.remove")
    assert not opened.at.error and "linear maps run" not in opened.words()


@pytest.mark.parametrize("bad", ["nosuchrun000", "../../etc"])
def test_an_address_that_leads_nowhere_is_told(visitor: Any, bad: str) -> None:
    visitor.open("5_Memory", run=bad)
    assert len(visitor.at.error) == 1


def test_a_measurement_that_failed_says_why(visitor: Any, runs: Any) -> None:
    run = runs.ended(
        "small", RunState.FAILED, error="no memory is left", kind="plan", text=TEXT, **TRAINING
    )
    visitor.open("5_Memory", run=run.id)
    assert "no memory is left" in [error.value for error in visitor.at.error]
    visitor.open("3_Runs")
    visitor.at.session_state["hybridlab"]["selected_runs"] = [run.id]
    visitor.open("3_Runs")
    visitor.press("run.open")
    assert "no memory is left" in [error.value for error in visitor.at.error]


def test_pytorchs_budget_is_measured_cancelled_and_shown(planned: Any, runs: Any) -> None:
    planned.press("memory.compiled.start")
    (run,) = runs.store.list(kind="compile")
    assert run.threads == 1 and run.spec["training"]["batch"] == BATCH
    planned.until(lambda at: planned.button("memory.compiled.start").disabled)
    planned.press("memory.compiled.cancel")
    planned.until(lambda at: any("It was cancelled" in error.value for error in at.error))
    assert runs.store.get(run.id).state is RunState.CANCELLED

    done = runs.store.create("compile", "again", run.spec, home=home_id())
    figures = {"peak_bytes": 7 * 2**20, "step_ms": 5.0}
    points = [
        {"share": 0.5, "measured": figures, "graphs": 2, "compile_s": 70.0, "difference": 1e-7},
        {"share": 0.25, "why": "it could not be compiled"},
    ]
    plan = {"spans": [[0, 1]], "shares": [0.5, None], "predicted": figures}
    content = {
        "plain": {"peak_bytes": 9 * 2**20, "step_ms": 6.0},
        "points": points,
        "planned": [{**plan, "measured": figures}, {**plan, "why": "it ran out of memory"}],
        "beside": 0,
    }
    left_behind(runs, done, "compiled.json", content)
    planned.open("5_Memory")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    names = [trace["name"] for trace in json.loads(at.get("plotly_chart")[0].proto.spec)["data"]]
    assert "PyTorch's budget, measured, compiled" in names and "as it is, measured" in names
    (table,) = [frame.value for frame in at.dataframe if "compile_s" in frame.value]
    assert list(table["budget"]) == ["as it is", "0.5"] and list(table["graphs"]) == [0, 2]
    (within,) = [frame.value for frame in at.dataframe if "predicted_ms" in frame.value]
    assert list(within["plan"]) == ["1 of 2 components below budget 1, 2 computed again"]
    assert list(within["predicted_bytes"]) == list(within["peak_bytes"]) == [7 * 2**20]
    assert "a plan of the compiled step, measured" in names
    assert "it could not be compiled" in planned.words()
    assert "it ran out of memory" in planned.words()

    damaged = runs.store.create("compile", "once more", run.spec, home=home_id())
    left_behind(runs, damaged, "compiled.json", {"plain": 3, "points": []})
    planned.open("5_Memory")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert any("plain" in error.value for error in at.error)

    planned.at.session_state["hybridlab"]["settings.parity"]["fusion"] = {"any": "fusion"}
    planned.open("5_Memory")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "hold: fusion (cannot be read)" in planned.words().replace("\\", "")


def test_what_is_kept_may_leave_memory(planned: Any) -> None:
    (choice,) = [one for one in planned.at.button_group if "offload" in str(one.key)]
    planned.give(choice, "bfloat16")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "goes to a memory-mapped file" in planned.words()
    assert "gradients change a little" in planned.words()
    (slider,) = at.slider
    planned.give(slider, slider.min)
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    (table,) = [frame.value for frame in planned.at.dataframe]
    boxes = planned.component("diagram")["info"]["boxes"]
    if "offloaded" in set(table["plan"]):  # whether it is worth it is this machine's affair
        assert any(box["hue"] == "away" for box in boxes)
        assert "in bfloat16, which is lossy" in planned.words()
    choice = next(one for one in planned.at.button_group if "offload" in str(one.key))
    planned.give(choice, "")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "gradients change a little" not in planned.words()
