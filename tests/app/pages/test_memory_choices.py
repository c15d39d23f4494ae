"""What may make a step better, on the Memory page: fusion, chunks and layouts, formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.precision.record import Measures, Precisions
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import RunState
from hybridlab.runs.slots import accelerators
from hybridlab.ui.memory.precision import formats_for
from hybridlab.ui.memory.tuning import border_table, tuning_table
from hybridlab.ui.memory.work import Work
from tests.app.held import in_session
from tests.app.stepped import BATCH, TEXT, TRAINING, fingerprint, left_behind


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


def test_formats_are_measured_shown_and_trained_with(planned: Any, runs: Any) -> None:
    (purpose,) = [one for one in planned.at.button_group if str(one.key).endswith("precisions.for")]
    planned.give(purpose, "memory")
    formats = planned.at.selectbox(key="memory.precisions.format")
    if not accelerators():  # a step in float32, so that is not offered
        assert formats.options == ["bfloat16", "float16 (passes forward only)"]
    planned.give(planned.at.selectbox(key="memory.precisions.tolerance"), 0.2)
    planned.press("memory.precisions.start")
    (run,) = runs.store.list(kind="precision")
    assert run.spec["for"] == "memory" and run.spec["options"] == {"tolerance": 0.2}
    assert any("Queued" in bar.proto.text for bar in planned.at.get("progress"))
    middle = {"low": 1.1, "high": 1.3, "n": 21, "confidence": 0.97}
    work = {"operators": 200, "moved_bytes": 2**20, "peak_bytes": 2**19}
    ratio = {"value": 1.2, **middle}
    row = {"format": "bfloat16", "output_error": 4e-3, "loss_error": 1e-5, "error": 6e-4}
    row |= {"plain_saved_bytes": 2**20, "saved_bytes": 2**19, "ratio": ratio, "use": "attention"}
    kept = {"component": "a", "kept": True, "why": "keeps fewer bytes"}
    lost = {"component": "b", "kept": False, "why": "overflows in bfloat16"}
    unknown = dict.fromkeys(("output_error", "loss_error", "error", "saved_bytes", "ratio"))
    precisions = Precisions(
        fingerprint=fingerprint(), device="cpu", training=True, formats={"a": "bfloat16"},
        measured=Measures(loss_error=1e-5, error=6e-4, time=1.2, saved_bytes=9, plain_saved_bytes=10),
    )  # fmt: skip
    content = {
        "precisions": precisions.as_dict(), "judged": [row | kept, row | lost | unknown],
        "plain": work, "mixed": {**work, "operators": 250}, "why": "keeps fewer bytes",
        "plain_ms": {"value": 2.0, **middle}, "mixed_ms": {"value": 2.4, **middle}, "ratio": ratio,
        "error": 6e-4, "tolerance": 5e-2, "loss_error": 1e-5, "loss_tolerance": 1e-2,
        "plain_saved_bytes": 2**21, "saved_bytes": 2**20, "memory": True,
        "applied": True, "busy": False, "others_cores": 0.0, "beside": 0,
    }  # fmt: skip
    left_behind(runs, run, "precisions.json", content)
    planned.open("5_Memory", run=run.id)
    at = planned.until(lambda at: any(metric.label == "Operators" for metric in at.metric))
    assert at.selectbox(key=f"memory.{run.id}.precisions.tolerance").value == 0.2
    (told,) = [box.value for box in at.success]
    assert "keeps 1 MiB for backward instead of 2 MiB" in told and "1.200 times the time" in told
    assert "gradients by 6.0e-04" in told
    (table,) = [frame.value for frame in at.dataframe if "output error" in frame.value]
    assert list(table["verdict"]) == ["kept: keeps fewer bytes", "overflows in bfloat16"]
    assert list(table["kept in the format"]) == ["512 KiB", ""] and table["time"].isna()[1]
    columns = json.loads(next(f for f in at.dataframe if "output error" in f.value).proto.columns)
    assert columns["error"]["label"] == "error of all gradients"
    labels = [button.proto.label for button in at.get("download_button")]
    assert "Precisions (JSON)" in labels
    planned.press(f"memory.{run.id}.precisions.train")
    taken = in_session(planned.at, "settings.parity")["precisions"]
    assert Precisions.read(taken) == precisions
    assert "a; all else in float32." in planned.words()
    planned.until(lambda at: "Predicted without the formats of single" in planned.words())
    assert not any("another architecture" in error.value for error in planned.at.error)
    settings = planned.at.session_state["hybridlab"]["settings.parity"]
    settings["precision"] = "bfloat16"
    planned.open("2_Train")
    assert any("this one is in bfloat16" in error.value for error in planned.at.error)
    planned.press("train.precisions.remove")
    assert "precisions" not in in_session(planned.at, "settings.parity")

    content |= {"applied": False, "why": "no component is measured faster in it"}
    (run_folder(run.id) / "precisions.json").write_text(json.dumps(content))
    planned.open("5_Memory", run=run.id)
    planned.until(lambda at: any("is measured faster in it" in box.value for box in at.info))


@pytest.mark.parametrize(
    ("precision", "given", "offered", "usual"),
    [
        ("float32", {}, ["bfloat16", "float16"], "bfloat16"),
        ("bfloat16", {}, ["float16", "float32"], "float32"),
        ("auto", {"device": "cpu"}, ["bfloat16", "float16"], "bfloat16"),
    ],
)
def test_the_format_of_the_whole_step_is_not_offered(
    precision: str, given: dict[str, str], offered: list[str], usual: str
) -> None:
    work = Work("", None, {"default_training": {}}, {"precision": precision, **given})
    assert formats_for(work) == (offered, usual)


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
