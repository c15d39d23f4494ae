"""The Memory page: a step's memory, the curve, a budget and its plan, its measurement, and training with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.architecture.complete import complete
from hybridlab.architecture.document import loads
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.record import Figures, Plan
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import predictions
from hybridlab.ui.memory.tuning import border_table, tuning_table
from tests.app.held import in_session
from tests.app.pages.memory_page import (
    BATCH,
    PRESET,
    TEXT,
    TRAINING,
    be_patient,
    left_behind,
    open_planned,
    titles,
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
def planned(visitor: Any) -> Any:
    return open_planned(visitor)


def fingerprint() -> str:
    """Return that of the preset as it is trained on the task."""
    task = predictions.task("parity")
    assert task is not None
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    whole = complete(loads(TEXT), task["input_node"], task["head_node"], kinds.get)
    return whole.fingerprint


def typed(visitor: Any, text: str) -> Any:
    (field,) = [field for field in visitor.at.text_input if field.label == "or type it"]
    visitor.give(field, text)
    return visitor.until(lambda at: len(at.get("plotly_chart")) == 2)


def measured(runs: Any, plan: Plan) -> Run:
    """Put a measurement of a plan into the store as its worker would have left it."""
    training = {"task": "parity", **TRAINING}
    spec = {"architecture": TEXT, "training": training, "preset": PRESET, "plan": plan.as_dict()}
    run: Run = runs.store.create("plan", "measured", spec, home=home_id())
    run_folder(run.id).mkdir(parents=True)
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    figures = Figures(peak_bytes=plan.predicted.peak_bytes, step_ms=9.0)
    plain = Figures(peak_bytes=plan.plain.peak_bytes, step_ms=8.0)
    content = {
        "plan": plan.model_copy(update={"measured": figures}).as_dict(),
        "plain_measured": plain.model_dump(),
    }
    (run_folder(run.id) / "plan.json").write_text(json.dumps(content))
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    return run


def test_a_budget_is_set_planned_applied_and_trained_with(planned: Any, runs: Any) -> None:
    at = planned.at
    assert "None yet. Set a budget below" in planned.words()
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
    assert "% a sample" in shown["Beyond costs at most, predicted"]
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

    planned.press(f"memory.{done.id}.train")
    assert in_session(planned.at, "settings.parity")["plan"]["recompute"]
    assert "Memory plan" in planned.words() and "bit for bit" in planned.words()
    assert not [error.value for error in planned.at.error]
    planned.press("train.plan.remove")
    assert "plan" not in in_session(planned.at, "settings.parity")


def test_what_is_not_planned_is_told(visitor: Any) -> None:
    visitor.open()
    state = visitor.at.session_state["hybridlab"]
    state["train_source"], state["train_task"] = f"preset {PRESET}", "parity"
    state["settings.parity"] = {"precision": "bfloat16", "accumulation": 2, "batch": 4}
    visitor.open("5_Memory")
    visitor.until(lambda at: len(at.error) == 2)
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


def test_what_fuses_is_measured_and_shown(planned: Any, runs: Any) -> None:
    planned.press("memory.fusion.start")
    (run,) = runs.store.list(kind="fuse")
    assert run.spec["for"] == "inference" and run.spec["training"]["batch"] == BATCH
    assert any("Queued" in bar.proto.text for bar in planned.at.get("progress"))
    middle = {"low": 0.8, "high": 0.9, "n": 21, "confidence": 0.97}
    work = {"operators": 200, "moved_bytes": 2**20, "peak_bytes": 2**19}
    row = {"places": 2, "error": 1e-7}
    kept = {"name": "a + b as one product", "kept": True, "why": "is faster"}
    slow = {"name": "c as one product", "kept": False, "why": "is not measured faster"}
    content = {
        "fusion": {"fingerprint": "x", "training": False, "products": [["a", "b"]], "folds": []},
        "judged": [{**row, **kept, "ratio": {"value": 0.85, **middle}}, {**row, **slow, "ratio": None}],
        "refused": [{"path": "root.moe.norm", "why": "is read by view, not by linear maps alone"}],
        "plain": work, "fused": {**work, "operators": 150}, "why": "is faster",
        "plain_ms": {"value": 2.0, **middle}, "fused_ms": {"value": 1.7, **middle},
        "ratio": {"value": 0.85, **middle}, "error": 2e-7, "tolerance": 1e-4,
        "applied": True, "busy": True, "others_cores": 1.5, "beside": 0,
    }  # fmt: skip
    run_folder(run.id).mkdir(parents=True, exist_ok=True)
    (run_folder(run.id) / "fusion.json").write_text(json.dumps(content))
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    planned.open("5_Memory")
    at = planned.until(lambda at: any(metric.label == "Operators" for metric in at.metric))
    shown = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert shown["Operators"] == ("150", "200 as it is")
    assert any("15.0 % less time" in box.value for box in at.success)
    assert any("no timings" in box.value for box in at.warning)
    (table,) = [frame.value for frame in at.dataframe if "verdict" in frame.value]
    assert list(table["verdict"]) == ["kept", "is not measured faster"]
    assert "is read by view" in planned.words()

    content |= {"applied": False, "why": "nothing that can be fused is measured faster"}
    (run_folder(run.id) / "fusion.json").write_text(json.dumps(content))
    planned.open("5_Memory", run=run.id)
    planned.until(lambda at: any("Nothing is fused" in box.value for box in at.info))


def test_ways_are_measured_shown_and_trained_with(planned: Any, runs: Any) -> None:
    planned.press("memory.tuning.start")
    (run,) = runs.store.list(kind="tune")
    assert run.spec["for"] == "inference"
    middle = {"low": 0.8, "high": 0.9, "n": 21, "confidence": 0.97}
    work = {"operators": 200, "moved_bytes": 2**20, "peak_bytes": 2**19}
    ratio = {"value": 0.85, **middle}
    tried = [
        {"value": 16, "error": 1e-7, "why": "", "ratio": {"value": 1.3, "low": 1.2, "high": 1.4}},
        {"value": 32, "error": 1e-7, "why": "", "ratio": ratio},
    ]
    one = {"component": "mamba2 of 4 x 48 x 64", "places": ["a", "b"], "kept": True, "ratio": ratio}
    chunk = {"knob": "chunk", "designed": 64, "value": 32, "why": "is faster", "tried": tried}
    before = {"knob": "convolution", "designed": "image", "value": "shifts", "tried": []}
    border = {"writer": "a", "reader": "a", "copied_bytes": 2**20, "cast_bytes": 0, "ms": 0.5}
    content = {
        "tuning": {"fingerprint": "x", "training": True, "chunk": {"a": 32, "b": 32},
                   "convolution": {"a": "shifts"}},
        "judged": [one | chunk, one | before | {"why": "was measured faster before"}],
        "plain": work, "tuned": {**work, "operators": 250}, "why": "is faster",
        "plain_borders": [border], "tuned_borders": [{**border, "ms": 0.25}],
        "plain_ms": {"value": 2.0, **middle}, "tuned_ms": {"value": 1.7, **middle},
        "ratio": ratio, "error": 2e-7, "tolerance": 1e-4,
        "applied": True, "busy": False, "others_cores": 0.0, "beside": 0,
    }  # fmt: skip
    run_folder(run.id).mkdir(parents=True, exist_ok=True)
    (run_folder(run.id) / "tuning.json").write_text(json.dumps(content))
    runs.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    planned.open("5_Memory", run=run.id)
    at = planned.until(lambda at: any(metric.label == "Operators" for metric in at.metric))
    shown = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert shown["Operators"] == ("250", "200 as designed")
    assert any("Tuned, it takes 15.0 % less time" in box.value for box in at.success)
    (table,) = [frame.value for frame in at.dataframe if "designed" in frame.value]
    assert list(table["verdict"]) == [
        "is not measured faster",
        "fastest: 0.850 once more",
        "was measured faster before",
    ]
    (table,) = [frame.value for frame in at.dataframe if "time, tuned" in frame.value]
    assert list(table["time, tuned"]) == ["250 µs"] and list(table["copied, tuned"]) == ["1 MiB"]
    planned.press(f"memory.{run.id}.tuning.train")
    assert in_session(planned.at, "settings.parity")["tuning"]["chunk"] == {"a": 32, "b": 32}
    assert "A in chunks of 32, b in chunks of 32" in planned.words()
    assert any("another architecture" in error.value for error in planned.at.error)
    planned.press("train.tuning.remove")
    assert "tuning" not in in_session(planned.at, "settings.parity")


def test_what_has_no_ways_has_no_table() -> None:
    found = {"judged": [], "plain_borders": [], "tuned_borders": [], "applied": False}
    assert tuning_table(found).empty and border_table(found).empty


def test_what_is_fused_for_training_goes_into_its_settings(planned: Any, runs: Any) -> None:
    work = {"operators": 9, "moved_bytes": 9, "peak_bytes": 9}
    middle = {"value": 0.8, "low": 0.7, "high": 0.9}
    content = {
        "fusion": {"fingerprint": fingerprint(), "training": True, "products": [["a", "b"]]},
        "judged": [], "refused": [], "why": "", "applied": True, "busy": False, "others_cores": 0.0,
        "plain": work, "fused": work, "plain_ms": middle, "fused_ms": middle, "ratio": middle,
        "error": 1e-7, "tolerance": 1e-4,
    }  # fmt: skip
    spec = {"architecture": TEXT, "training": {"task": "parity", **TRAINING}, "for": "training"}
    run = runs.store.create("fuse", "fused", spec, home=home_id())
    left_behind(runs, run, "fusion.json", content)
    planned.open("5_Memory", run=run.id)
    planned.until(lambda at: any("less time" in box.value for box in at.success))
    planned.press(f"memory.{run.id}.fusion.train")
    kept = in_session(planned.at, "settings.parity")["fusion"]
    assert Fusion.read(kept).products == (("a", "b"),) and kept["training"]
    assert "2 linear maps run as 1 product." in planned.words()
    assert not any("another architecture" in error.value for error in planned.at.error)


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
    content = {"plain": {"peak_bytes": 9 * 2**20, "step_ms": 6.0}, "points": points, "beside": 0}
    left_behind(runs, done, "compiled.json", content)
    planned.open("5_Memory")
    at = planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    names = [trace["name"] for trace in json.loads(at.get("plotly_chart")[0].proto.spec)["data"]]
    assert "PyTorch's budget, measured, compiled" in names and "as it is, measured" in names
    (table,) = [frame.value for frame in at.dataframe if "compile_s" in frame.value]
    assert list(table["budget"]) == ["as it is", "0.5"] and list(table["graphs"]) == [0, 2]
    assert "it could not be compiled" in planned.words()

    planned.at.session_state["hybridlab"]["settings.parity"]["fusion"] = {"any": "fusion"}
    planned.open("5_Memory")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "of the step without fusion" in planned.words()


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
