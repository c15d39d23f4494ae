"""Compiled regions on the Memory page: measured, cancelled, shown, and trained with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.runs.home import home_id
from hybridlab.ui.memory.regions import CHOICE
from hybridlab.views.regions import regions_info
from tests.app.held import in_session
from tests.app.stepped import BATCH, left_behind


def titles(at: Any) -> list[str]:
    return [json.loads(c.proto.spec)["layout"]["title"]["text"] for c in at.get("plotly_chart")]


def test_regions_are_measured_cancelled_shown_and_trained_with(planned: Any, runs: Any) -> None:
    planned.press("memory.regions.start")
    (run,) = runs.store.list(kind="regions")
    assert run.spec["for"] == "inference" and run.spec["training"]["batch"] == BATCH
    planned.press("memory.regions.cancel")
    planned.until(lambda at: any("It was cancelled" in error.value for error in at.error))

    middle = {"low": 0.8, "high": 0.9, "n": 21, "confidence": 0.97}
    ratio = {"value": 0.85, **middle}
    work = {"operators": 200, "moved_bytes": 2**20, "peak_bytes": 2**19}
    one = {
        "name": "swiglu",
        "paths": ["root.a", "root.b"],
        "kept": True,
        "why": "is faster",
        "plain": {"kernels": 40, "moved_bytes": 4000},
        "chained_bytes": 1000,
        "saved_bytes": 500,
        "compiled": {"kernels": 9, "moved_bytes": 2000},
        "graphs": 2,
        "compile_s": 20.0,
        "breaks": [{"why": "a value is asked for", "times": 3}],
        "error": 1e-7,
        "ratio": ratio,
    }
    not_tried = {"compiled": None, "graphs": 0, "compile_s": None, "breaks": [], "error": None}
    failed = (
        one
        | not_tried
        | {
            "name": "moe <b>",
            "paths": ["root.c"],
            "kept": False,
            "ratio": None,
            "why": "cannot be compiled: no such instruction",
        }
    )
    content = {
        "regions": {"fingerprint": "x", "device": "cpu", "training": True, "compile_s": 20.0,
                    "paths": ["root.a", "root.b"], "batch": 64, "shapes": [[[64, 48, 64]]] * 2,
                    "broken": ["root.a", "root.b"]},
        "judged": [one, failed], "why": "is faster", "bytes_are": "bytes after are a lower bound",
        "refused": [{"name": "lstm", "paths": ["root.lstm"], "why": "has no compiler"}],
        "plain": work, "compiled": {**work, "operators": 120}, "applied": True, "busy": False,
        "plain_ms": {"value": 2.0, **middle}, "compiled_ms": {"value": 1.7, **middle},
        "ratio": ratio, "error": 2e-7, "tolerance": 1e-4, "others_cores": 0.0, "beside": 0,
    }  # fmt: skip
    done = runs.store.create("regions", "again", run.spec, home=home_id())
    left_behind(runs, done, "regions.json", content)
    planned.open("5_Memory", run=done.id)
    at = planned.until(lambda at: any(metric.label == "Kernels" for metric in at.metric))
    shown = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert shown["Kernels"] == ("120", "200 as it is")
    assert any("Compiled, it takes 15.0 % less time" in box.value for box in at.success)
    assert any("1 of 1 regions are kept compiled" in title for title in titles(at))
    (table,) = [frame.value for frame in at.dataframe if "compiled_kernels" in frame.value]
    assert table["compiled_kernels"].iloc[0] == 9 and list(table["places"]) == [2, 1]
    assert list(table["verdict"]) == ["kept: is faster", "cannot be compiled: no such instruction"]
    words = planned.words().replace("\\", "")
    assert "a lower bound" in words and "swiglu runs in 2 graphs: a value is asked for" in words
    assert "lstm: has no compiler" in words
    planned.press(f"memory.{done.id}.regions.train")
    assert in_session(planned.at, "settings.parity")["regions"]["paths"] == ["root.a", "root.b"]
    assert "a, b run compiled on batches of 64" in planned.words().replace("\\", "")
    assert any("another architecture" in error.value for error in planned.at.error)
    planned.press("train.regions.remove")
    assert "regions" not in in_session(planned.at, "settings.parity")


def test_where_nothing_was_compiled_there_is_a_table_and_no_figure() -> None:
    info = regions_info({"judged": []})
    assert not info.regions and "No region" in info.title


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((0, 1), "Looking for"),
        ((1, 5), "region 2 of 2"),
        ((2, 5), "in the whole step"),
        ((3, 5), "once more"),
        ((5, 5), "Counting kernels"),
    ],
)
def test_how_far_regions_are_is_told_by_region(at: tuple[int, int], said: str) -> None:
    assert CHOICE.telling is not None and said in CHOICE.telling(*at)
