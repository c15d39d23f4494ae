"""Costs by component, results beside baselines, and the table of runs, against figures worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest

from hybridlab.runs.record import Run, RunState
from hybridlab.views import style
from hybridlab.views.costs import costs_info, costs_plot
from hybridlab.views.runs_table import RunRow, runs_info, runs_table
from hybridlab.views.score import score_info, score_plot


def component(path: str, ms: float, **more: Any) -> dict[str, Any]:
    cost = {"params": 1000, "flops": 2e6, "activation_bytes": 4096}
    return {"path": path, "use": "mlp", "kind": "channel_mixer", **cost, "ms": ms, **more}


def test_costs_are_read_in_the_order_of_the_architecture() -> None:
    info = costs_info([component("a", 1.0), component("b", 3.0, use="lstm", params=5)])
    assert [(r.path, r.use, r.params, r.ms) for r in info.rows] == [
        ("a", "mlp", 1000.0, 1.0),
        ("b", "lstm", 5.0, 3.0),
    ]
    assert info.dearest is info.rows[1]
    table = info.table()
    assert table["parameters"].tolist() == [1000, 5]
    assert table["activations (bytes)"].tolist() == [4096, 4096]
    assert table["time of a step (ms, predicted)"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("source", "pattern"), [("predicted", "/"), ("measured", "")])
def test_bars_say_where_their_numbers_come_from(source, pattern) -> None:
    info = costs_info([component("a", 1.0), component("<b>", 3.0)], source)
    figure = costs_plot(info)
    assert figure.layout.title.text == f"&lt;b&gt; takes 75 % of the time ({source})"
    assert {bar.marker.pattern.shape for bar in figure.data} == {pattern}
    assert [list(bar.x) for bar in figure.data] == [
        [1000.0, 1000.0],
        [2e6, 2e6],
        [4096.0, 4096.0],
        [1.0, 3.0],
    ]
    axes = [figure.layout[f"xaxis{n}"].title.text for n in ("", "2", "3", "4")]
    assert axes == ["Parameters", "FLOPs", "Activation bytes", "Step, ms"]
    assert list(figure.data[3].text) == ["1 ms", "3 ms"]
    assert figure.data[0].marker.color[0] == style.KIND_COLOURS["channel_mixer"]
    assert figure.layout.template.layout.paper_bgcolor == style.CLEAR


def test_many_small_components_are_summed_up_and_nothing_is_lost() -> None:
    parts = [component(f"n{i}", float(i)) for i in range(100)]
    info = costs_info(parts)
    assert len(info.rows) == 40
    assert info.rows[-1].path == "61 smaller ones"
    assert [row.path for row in info.rows[:-1]] == [f"n{i}" for i in range(61, 100)]
    assert sum(row.ms for row in info.rows) == sum(range(100))
    assert sum(row.params for row in info.rows) == 100_000


def test_no_components_and_no_time_make_no_claim() -> None:
    assert costs_info([]).dearest is None
    assert costs_plot(costs_info([])).layout.title.text == "Cost by component (predicted)"
    free = costs_info([component("a", 0.0)], "measured")
    assert costs_plot(free).layout.title.text == "Cost by component (measured)"


@pytest.mark.parametrize(
    ("value", "higher", "verdict", "better"),
    [
        (0.97, True, "beats", True),
        (0.3, True, "does not beat", False),
        (0.5, True, "does not beat", False),
        (0.05, False, "beats", True),
        (0.3, False, "does not beat", False),
    ],
)
def test_a_result_beats_all_baselines_or_it_does_not(value, higher, verdict, better) -> None:
    baselines = {"majority_class": 0.1, "nearest_<mean>": 0.5}
    info = score_info("test_accuracy", value, baselines, higher_is_better=higher)
    order = ["nearest_<mean>", "majority_class"] if higher else ["majority_class", "nearest_<mean>"]
    assert [name for name, _ in info.baselines] == order
    assert info.better is better
    figure = score_plot(info)
    title = f"Test accuracy {value:.3g}, {verdict} what needs no learning"
    assert figure.layout.title.text == title
    assert figure.data[0].y[0] == "this run"
    assert list(figure.data[0].x) == [value, *(v for _, v in info.baselines)]
    assert "nearest &lt;mean&gt;" in figure.data[0].y
    word = "higher" if higher else "lower"
    assert figure.layout.xaxis.title.text == f"test accuracy ({word} is better)"
    assert figure.layout.template.layout.plot_bgcolor == style.CLEAR


BASE = Run(
    id="0123456789ab", kind="train", name="first", state=RunState.RUNNING, owner="",
    created=1_750_000_000.0, started=1_750_000_010.0, ended=None, threads=1, device="auto",
    spec={"training": {"task": "parity"}}, step=50, steps=200, result=None, error="",
    parent=None, cancel_requested=False, heartbeat=3, attempt=1, granted="cpu", home="h",
    pid=None, birth="", lease="", truncations=0,
)  # fmt: skip


def row(latest: dict[str, float] | None = None, **change: Any) -> RunRow:
    run = dataclasses.replace(BASE, **change)
    return runs_info([run], {run.id: latest} if latest else {})[0]


def test_a_running_run_shows_its_progress_and_last_validation() -> None:
    shown = row({"loss": 0.4, "val_accuracy": 0.75})
    assert (shown.task, shown.metric, shown.value) == ("parity", "val_accuracy", 0.75)
    assert (shown.progress, shown.steps, shown.seconds) == (0.25, 50, None)


def test_a_result_comes_before_the_last_metrics() -> None:
    result = {"metrics": {"test_accuracy": 0.98}, "seconds": 12.345}
    shown = row({"val_accuracy": 0.9}, state=RunState.DONE, result=result)
    assert (shown.metric, shown.value, shown.seconds) == ("test_accuracy", 0.98, 12.3)
    assert shown.progress == 1.0, "a run that stopped early at its target is done all the same"


@pytest.mark.parametrize(
    ("change", "seconds", "progress"),
    [
        ({"state": RunState.FAILED, "ended": 1_750_000_030.0}, 20.0, 0.25),
        ({"state": RunState.CANCELLED, "started": None, "ended": 1.0, "step": 0}, None, 0.0),
        ({"state": RunState.QUEUED, "steps": 0, "step": 0}, None, 0.0),
        ({"step": 300}, None, 1.0),
    ],
)
def test_ended_and_queued_runs_say_what_is_known(change, seconds, progress) -> None:
    shown = row(**change)
    assert (shown.seconds, shown.progress) == (seconds, progress)
    assert (shown.metric, shown.value) == ("", None)


def test_a_run_of_another_kind_is_named_by_its_kind() -> None:
    assert row(kind="search", spec={}).task == "search"


def test_the_table_has_units_in_its_headings_and_gaps_where_nothing_is_known() -> None:
    rows = [row({"val_bits_per_byte": 2.5}), row(id="ba9876543210", name="<b>")]
    table = runs_table(rows, lambda state: f"is {state.lower()}")
    assert list(table.columns) == [
        "name", "state", "task", "metric", "value", "progress (%)", "steps", "time (s)", "created",
        "threads", "run",
    ]  # fmt: skip
    assert table["metric"].tolist() == ["val bits per byte", ""]
    assert table["value"].tolist() == [2.5, pd.NA]
    assert table["state"].tolist() == ["is running"] * 2
    assert table["progress (%)"].tolist() == [25, 25]
    assert str(table["created"][0]) == "2025-06-15 15:06:40+00:00"
    assert runs_table([]).empty
