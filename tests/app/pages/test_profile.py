"""The Profile page: start a profile, follow it, look at what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import nn

from hybridlab.architecture import library
from hybridlab.profiling.findings import Finding
from hybridlab.profiling.report import Report, report
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from tests.profiling.profiles import CEILINGS, profile_of, training

TEXT = library.find("lstm_attention_mini").read_text(encoding="utf-8")


def component(path: str, ms: float, **more: Any) -> dict[str, Any]:
    figures = {"forward_ms": ms / 4, "backward_ms": ms / 2, "optimiser_ms": 0.0, "share": ms / 20}
    work = {"operators": 7, "flops": 4000, "bytes_read": 600, "bytes_written": 400}
    return {
        "path": path,
        "ms": ms,
        **figures,
        **work,
        "saved_bytes": 2048,
        "predicted_ms": ms / 2,
        **more,
    }


FIGURES: dict[str, Any] = {
    "name": "small",
    "attributed": 0.99,
    "in_components": 0.95,
    "unattributed_ms": 0.2,
    "peak_bytes": {"predicted": 3 * 2**20, "measured": 2 * 2**20},
    "step_ms": {
        "predicted": 24.0,
        "measured": 20.0,
        "interval": [19.0, 22.0],
        "confidence": 0.95,
        "steps": 9,
        "profiled": 25.0,
    },
    "components": [
        component("token_embedding", 2.0),
        component("lstm", 12.0, grad_norm=0.25),
        component("attention", 4.0),
        component("(loss)", 1.0, predicted_ms=None),
    ],
    "notes": ["another run was <b>under way</b>"],
    "allocator": {"not_measured": "no accelerator: <b>none</b>"},
}


def profiled(runs, **more: Any) -> Run:
    """Put a finished profile into the store and its files into the folder."""
    run = runs.running("small on parity", text=TEXT, kind="profile", **more)
    folder = run_folder(run.id) / "profile"
    (folder / "report").mkdir(parents=True)
    (folder / "profile.json").write_text(json.dumps(FIGURES))
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    return run


def classes(run: Run) -> None:
    names = ["label 0", "label 1"]
    rows = [(name, part) for name in names for part in ("lstm", "moe")]
    ms = [1.0, 2.0, 3.0, 2.0]
    tables = {
        "classes": {
            "input_class": names,
            "samples": 4,
            "length": 8,
            "score": [0.5, 0.75],
            "ms": [3.0, 5.0],
        },
        "components": {
            "input_class": [r[0] for r in rows],
            "component": [r[1] for r in rows],
            "ms": ms,
        },
        "spread": {
            "component": ["lstm", "moe"],
            "ms": 2.0,
            "spread": [0.5, 0.0],
            "noise": [0.1, 0.1],
        },
        "reports": {
            "input_class": names,
            "component": "moe",
            "name": "load",
            "index": 0,
            "value": [0.25, 1.0],
        },
    }
    for name, columns in tables.items():
        file = run_folder(run.id) / "profile" / "report" / f"class_{name}.parquet"
        pd.DataFrame(columns).to_parquet(file)


def sizes(run: Run) -> None:
    columns = {"batch": 2, "length": [8, 32], "component": "lstm"}
    times = {"ms": [1.0, 8.0], "low_ms": [0.9, 7.0], "high_ms": [1.2, 9.0]}
    rates = {"samples_per_s": 1.0, "positions_per_s": 1.0, "activation_bytes": 4096}
    tables = {
        "sizes": {**columns, **times, **rates},
        "components": {**columns, "ms": 1.0, "share": 0.5},
        "notes": {"note": ["length 64, batch 2 cannot be run: <b>"]},
    }
    for name, table in tables.items():
        file = run_folder(run.id) / "profile" / "report" / f"size_{name}.parquet"
        pd.DataFrame(table).to_parquet(file)


def test_a_profile_is_started_from_the_chosen_design_and_followed(visitor, runs) -> None:
    at = visitor.open("4_Profile")
    assert "None yet. A profile measures" in visitor.words()
    visitor.give(at.number_input(key="profile.steps"), 3)
    visitor.until(lambda at: "Predicted: " in visitor.words())
    at = visitor.press("profile.start")
    (run,) = runs.store.list(kind="profile")
    assert run.spec["profile"] == {"steps": 3}
    assert run.spec["training"]["batch"] > 0
    assert run.id in at.query_params["run"]
    (bar,) = at.get("progress")
    assert bar.proto.text == "Queued; it starts as soon as cores are free …"
    visitor.press("Cancel")
    visitor.until(lambda at: "This profile was cancelled" in visitor.words())
    visitor.press("New profile")
    assert any(run.name in button.label.replace("\\", "") for button in visitor.at.button)


def test_what_was_measured_stands_beside_what_was_predicted(visitor, runs) -> None:
    run = profiled(runs)
    at = visitor.open("4_Profile", run=run.id)
    figures = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert figures["Step, measured"] == ("20 ms", "24 ms predicted (+20.0 %)")
    assert figures["Peak memory, measured"] == ("2 MiB", "3 MiB predicted (+50.0 %)")
    assert figures["In components, measured"][0] == "95.0 %"
    boxes = {box["path"]: box for box in visitor.component("diagram")["info"]["boxes"]}
    assert [boxes[path]["detail"] for path in ("nodes[0]", "nodes[1]")] == ["12 ms", "4 ms"]
    visitor.give(at.selectbox(key=f"profile.{run.id}.quantity"), "ratio")
    boxes = {box["path"]: box for box in visitor.component("diagram")["info"]["boxes"]}
    assert boxes["nodes[0]"]["detail"] == "× 2.00"
    visitor.give(at.selectbox(key=f"profile.{run.id}.quantity"), "grad_norm")
    boxes = {box["path"]: box for box in visitor.component("diagram")["info"]["boxes"]}
    assert [boxes[path]["detail"] for path in ("nodes[0]", "nodes[1]")] == ["0.25", ""]
    assert "did not look for a counter" in visitor.words()
    (table,) = [frame.value for frame in visitor.at.dataframe]
    assert list(table["component"]) == ["token_embedding", "lstm", "attention", "(loss)"]
    assert "<b>" not in visitor.words().replace("\\<b\\>", "")


def test_energy_is_shared_out_by_time_or_said_not_to_be_measured(visitor, runs) -> None:
    run = profiled(runs)
    file = run_folder(run.id) / "profile" / "profile.json"
    told = {"joules": None, "not_measured": "there is no counter"}
    file.write_text(json.dumps(FIGURES | {"energy": told}))
    at = visitor.open("4_Profile", run=run.id)
    visitor.give(at.selectbox(key=f"profile.{run.id}.quantity"), "joules")
    assert visitor.words().count("not measured\\: there is no counter") == 2
    told = {
        "joules": 60.0,
        "net_joules": 40.0,
        "joules_per_step": 3.0,
        "steps": 20,
        "seconds": 5.0,
        "idle_seconds": 3.0,
        "sources": [{"source": "RAPL", "covers": "the package", "idle_w": 4.0}],
        "not_measured": "",
        "caution": "",
    }
    components = [item | {"joules": item["share"] * 2.0} for item in FIGURES["components"]]
    file.write_text(json.dumps(FIGURES | {"energy": told, "components": components}))
    visitor.open("4_Profile", run=run.id)
    visitor.give(at.selectbox(key=f"profile.{run.id}.quantity"), "joules")
    boxes = {box["path"]: box for box in visitor.component("diagram")["info"]["boxes"]}
    assert boxes["nodes[0]"]["detail"] == "1.2 J"
    words = visitor.words().replace("\\", "")
    assert "Energy of 20 steps in 5 s: 60 J measured by RAPL" in words
    assert "40 J without idle power (4 W, measured for 3 s before)" in words
    assert "which is assumed" in words


def test_what_depends_on_the_input_is_a_view_with_an_address(visitor, runs) -> None:
    run = profiled(runs)
    visitor.open("4_Profile", run=run.id, view="inputs")
    assert "This profile was made without classes of input" in visitor.words()
    classes(run)
    at = visitor.open("4_Profile", run=run.id, view="inputs")
    titles = [
        json.loads(chart.proto.spec)["layout"]["title"]["text"] for chart in at.get("plotly_chart")
    ]
    assert titles == [
        "lstm depends most on the input (time, measured)",
        "moe: who gets which input (measured)",
    ]
    labels = [button.label for button in at.get("download_button")]
    assert labels == ["HTML", "CSV", "Parquet"] * 2 + ["CSV", "Parquet"]
    sizes(run)
    at = visitor.open("4_Profile", run=run.id, view="inputs")
    (*_, last) = at.get("plotly_chart")
    title = json.loads(last.proto.spec)["layout"]["title"]["text"]
    assert title == "4 times the length takes 8 times the time (measured)"
    assert "length 64, batch 2 cannot be run" in visitor.words().replace("\\", "")


def test_a_profile_that_failed_says_why_and_can_be_made_again(visitor, runs) -> None:
    run = runs.ended("small", RunState.FAILED, error="no memory is left", kind="profile", text=TEXT)
    visitor.open("4_Profile", run=run.id)
    assert [error.value for error in visitor.at.error] == ["no memory is left"]
    damaged = profiled(runs)
    (run_folder(damaged.id) / "profile" / "profile.json").write_text("{")
    visitor.open("4_Profile", run=damaged.id)
    assert "cannot be read" in visitor.at.error[0].value


@pytest.mark.parametrize("bad", ["nosuchrun000", "../../etc"])
def test_an_address_that_leads_nowhere_is_told(visitor, bad: str) -> None:
    visitor.open("4_Profile", run=bad)
    assert len(visitor.at.error) == 1


def test_a_run_leads_to_the_page_of_its_kind(visitor, runs, home: Path) -> None:
    run = profiled(runs)
    visitor.open("3_Runs")
    visitor.at.session_state["hybridlab"]["selected_runs"] = [run.id]
    visitor.open("3_Runs")
    visitor.press("run.open")
    assert "Step, measured" in [metric.label for metric in visitor.at.metric]


def test_a_trained_network_is_profiled_with_its_weights(visitor, runs) -> None:
    run = runs.ended("learned", metrics={"test_accuracy": 0.5}, text=TEXT)
    visitor.open("2_Train", run=run.id)
    visitor.press(f"profile.of.{run.id}")
    (made,) = runs.store.list(kind="profile")
    assert made.spec["profile"]["weights_of"] == run.id
    assert made.spec["training"]["task"] == "parity"
    assert made.name == "learned, trained"


def reported(run: Run) -> None:
    """Write the tables of a small step, with a finding about fusing and one about overhead, as a worker does."""
    made = report(profile_of(training(nn.Linear(32, 64), nn.GELU())), (), CEILINGS)
    said = (
        Finding("rows of operators", 0.3, "warning", ("lstm",), "operators", "memory/compiled"),
        Finding("calls take it all", 0.2, "hint", (), "operators", "train", {"operators": 3}),
    )
    Report(made.tables, said).save(run_folder(run.id) / "profile" / "report")


def test_a_finding_leads_to_the_section_that_acts_on_it(visitor, runs) -> None:
    run = profiled(runs, task="parity")
    reported(run)
    visitor.open("4_Profile", run=run.id, view="findings")
    head = f"profile.{run.id}.finding"
    labels = {button.key: button.label for button in visitor.at.button}
    assert labels[f"{head}.0.memory"] == "Measure it compiled"
    assert labels[f"{head}.1.train"] == "Set up its training"
    assert f"{head}.1.design" not in labels
    at = visitor.press(f"{head}.0.memory")
    assert at.query_params["section"] == "compiled"
    assert [title.value for title in at.title] == ["Memory"]
    assert visitor.component("arrive.memory") == {"place": "memory-compiled"}


def test_accesses_are_shown_by_component_and_by_storage(visitor, runs) -> None:
    run = profiled(runs)
    visitor.open("4_Profile", run=run.id, view="memory")
    assert "no tables of memory" in visitor.words()
    reported(run)
    at = visitor.open("4_Profile", run=run.id, view="memory")
    said = r"Fragmentation of the device's memory: not measured\: no accelerator\: \<b\>none\</b\>."
    assert said in visitor.words()
    key = f"profile.{run.id}"
    visitor.give(at.button_group(key=f"{key}.memory.picture"), "raster")
    assert [axis(chart) for chart in visitor.at.get("plotly_chart")] == [
        ["0", "1", "(loss)", "(optimiser)"]
    ]
    visitor.give(visitor.at.button_group(key=f"{key}.raster.by"), "storage")
    (rows,) = [axis(chart) for chart in visitor.at.get("plotly_chart")]
    assert "0.weight, weights" in rows and any("gelu" in row for row in rows)
    visitor.give(visitor.at.button_group(key=f"{key}.raster.unit"), "us")
    labels = [button.label for button in visitor.at.get("download_button")]
    assert labels == ["HTML", "CSV", "Parquet"]


def axis(chart: Any) -> list[str]:
    return json.loads(chart.proto.spec)["layout"]["yaxis"]["ticktext"]


def test_kernels_are_shown_where_a_device_ran_some(visitor, runs) -> None:
    run = profiled(runs)
    reported(run)
    visitor.open("4_Profile", run=run.id, view="operators")
    assert "Kernels on the device" not in visitor.words()
    folder = run_folder(run.id) / "profile"
    (folder / "profile.json").write_text(json.dumps(FIGURES | {"kernels_joined": 0.9}))
    columns = {"kernel": ["gemm", "relu"], "component": ["0", "1"], "phase": "forward"}
    table = pd.DataFrame(columns | {"op": ["addmm", "gelu"], "calls": 1, "ms": [3.0, 1.0]})
    table.to_parquet(folder / "report" / "kernels.parquet")
    visitor.open("4_Profile", run=run.id, view="operators")
    assert "90.0 % of the device" in visitor.words()
    shown = visitor.at.dataframe[1].value
    assert list(shown["kernel"]) == ["gemm", "relu"] and list(shown["share (%)"]) == [75.0, 25.0]
