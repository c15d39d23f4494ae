"""Pictures of a trace say what its tables say, with units, and nothing in them is markup from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from hybridlab.profiling.analysis.groundwork import groundwork
from hybridlab.profiling.comparison import compare
from hybridlab.profiling.ranks import across_ranks
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.summary import summarise
from hybridlab.profiling.trace_report import tables
from hybridlab.views import trace_components, trace_steps, trace_tables, trace_waiting
from hybridlab.views.trace_communication import (
    collectives_info,
    collectives_plot,
    overlap_plot,
    ranks_info,
    steps_overlap_info,
)
from hybridlab.views.trace_comparison import changes_info, changes_plot
from hybridlab.views.trace_memory import fragmentation_words, memory_info, memory_plot
from hybridlab.views.trace_timeline import timeline_info, timeline_plot
from tests.profiling.traces import complete, launch, training, written

EVIL = "<b>evil</b>"


def evil() -> list[Any]:
    """The training, with markup in the names of a module, an operator and a kernel, and more of it."""
    events = training()
    events += [complete("python_function", f"nn.Module: {EVIL}_0", 1_000_205, 90)]
    events += [complete("cpu_op", EVIL, 1_000_210, 80)]
    events += launch(999, 1_000_215, 5, 1_000_230, 60, kernel=EVIL)
    return events


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("views")
    grounds = [
        groundwork(read_trace(written(folder / f"{name}.json", events)))
        for name, events in (("a", training()), ("b", evil()))
    ]
    before, after = (summarise(ground.trace, ground) for ground in grounds)
    found: dict[str, Any] = dict(tables(grounds[1], after))
    found["summary"] = after.as_dict()
    found["changes"] = pd.DataFrame(compare(before, after).as_dict()["kernels"])
    found["ranks"] = pd.DataFrame(across_ranks([after]).as_dict()["rows"])
    return found


def figures(made: dict[str, Any]) -> dict[str, go.Figure]:
    components, flame, lanes = (made[name] for name in ("components", "flame", "lanes"))
    delays = made["summary"]["launch_delays"]
    found = {
        "steps": trace_steps.steps_plot(trace_steps.steps_info(made["steps"])),
        "use": trace_steps.use_plot(trace_steps.use_info(made["device_use"])),
        "kernels": trace_tables.kernels_plot(trace_tables.kernels_info(made["kernels"])),
        "idle": trace_waiting.idle_plot(trace_waiting.idle_info(made["idle"])),
        "critical": trace_waiting.critical_plot(trace_waiting.critical_info(made["critical_path"])),
        "delays": trace_waiting.delays_plot(
            trace_waiting.delays_info(made["launch_delays"], delays)
        ),
        "queue": trace_waiting.queue_plot(trace_waiting.queue_info(made["queue"])),
        "overlap": overlap_plot(steps_overlap_info(made["steps"])),
        "ranks": overlap_plot(ranks_info(made["ranks"]), "mean step"),
        "collectives": collectives_plot(collectives_info(made["collectives"])),
        "memory": memory_plot(memory_info(made["memory"], "device 0", True)),
        "changes": changes_plot(changes_info(made["changes"], "kernels")),
    }
    for place in ("device", "host"):
        for by in ("path", "class"):
            info = trace_components.components_info(components, place, by)  # type: ignore[arg-type]
            found[f"components {place} {by}"] = trace_components.components_plot(info)
        info = trace_tables.operators_info(made["operators"], place)  # type: ignore[arg-type]
        found[f"operators {place}"] = trace_tables.operators_plot(info)
    for colours in ("kind", "component", "name"):
        info = timeline_info(flame, lanes, (0, 2_000), colours)  # type: ignore[arg-type]
        found[f"timeline {colours}"] = timeline_plot(info)
    return found


def test_every_picture_has_a_title_units_and_no_markup(made: dict[str, Any]) -> None:
    units = (" µs", " ms", " s", " %", "share", "kernels", "waiting", "step", ", B", ", KiB")
    drawn = figures(made)
    assert len(drawn) == 21
    for name, figure in drawn.items():
        assert "measured" in figure.layout.title.text or "within steps" in figure.layout.title.text
        titles = [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text]
        assert any(unit in (text or "") for text in titles for unit in units), (name, titles)
        assert EVIL not in figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">"), name
    assert any("&lt;b&gt;" in text for text in drawn["kernels"].layout.yaxis.ticktext)
    tree = trace_components.tree_plot(trace_components.tree_info(made["components"], "device"))
    assert EVIL not in [*tree.data[0].labels, *tree.data[0].customdata]


def test_components_add_up_whatever_they_are_put_together_by(made: dict[str, Any]) -> None:
    table = made["components"]
    total = table["device_us"].sum()
    for by, depth in (("path", None), ("class", None), ("path", 1)):
        info = trace_components.components_info(table, "device", by, depth)  # type: ignore[arg-type]
        assert sum(row.own_us for row in info.rows) == pytest.approx(total)
        assert info.attributed == pytest.approx(made["summary"]["attributed"])
    by_class = {row.label: row for row in info.rows}
    assert by_class["Net_0"].backward_us == pytest.approx(2 * (30 + 20 + 200))
    assert {row.label for row in info.rows if row.kind == "phase"} >= {"optimizer", "communication"}
    tree = trace_components.tree_info(table, "device")
    assert sum(tree.own_us) == pytest.approx(total)


def test_a_large_tree_is_drawn_at_a_depth_that_can_be_read() -> None:
    paths = [f"Net/Block_{i % 6}/Linear_{i}" for i in range(120)]
    table = pd.DataFrame({"path": paths, "kind": "module", "calls": 1, "device_us": 1.0})
    table["device_backward_us"] = 0.0
    assert trace_components.readable_depth(table, "device") == 2
    info = trace_components.components_info(table, "device", depth=2)
    assert [row.own_us for row in info.rows] == [20.0] * 6
    smaller = trace_components.components_info(table, "device").rows[-1]
    assert (smaller.label, smaller.own_us) == ("96 smaller ones", 96.0)


def test_the_timeline_places_every_lane_below_the_one_before(made: dict[str, Any]) -> None:
    info = timeline_info(made["flame"], made["lanes"], (0, 1_000))
    ends = [first + height for _, first, height in info.lanes]
    starts = [first for _, first, _ in info.lanes]
    assert all(start > end for start, end in zip(starts[1:], ends, strict=False))
    kernels = info.bars[info.bars["kind"] == "kernel"]
    assert kernels["row"].min() >= starts[2], "streams lie below threads"
    assert info.bars["group"].isin(list(info.groups)).all()


def test_what_changed_is_split_and_signed(made: dict[str, Any]) -> None:
    info = changes_info(made["changes"], "kernels")
    (new,) = (row for row in info.rows if EVIL in row.name)
    assert (new.from_calls_us, new.change_us) == (30.0, 30.0)
    assert "&lt;b&gt;" in new.words and "new" in new.words


def test_shares_that_the_trace_does_not_tell_are_no_bars() -> None:
    row = {"device": 1, "kernels": 3, "busy": 0.5, "sm_efficiency": None, "occupancy": 40.0}
    (info,) = trace_steps.use_info(pd.DataFrame([row | {"matrix_cores": 0.25}]))
    assert info.shares == {
        "busy": 50.0,
        "sm_efficiency": None,
        "occupancy": 40.0,
        "matrix_cores": 25.0,
    }
    assert info.untold == ("Multiprocessors filled",)
    assert len(trace_steps.use_plot((info,)).data[0].x) == 3


def test_the_report_of_a_trace_without_a_device(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "cpu.json", [complete("cpu_op", "a", 0, 5)]))
    ground = groundwork(trace)
    found = tables(ground, summarise(trace, ground))
    assert not set(found) & {"kernels", "idle", "queue", "launch_delays", "critical_path", "memory"}
    assert trace_steps.steps_info(found["steps"]).shares == {"operator": 1.0}


def test_what_is_reserved_and_unused_lies_between_the_two_curves() -> None:
    table = pd.DataFrame(
        {
            "device": ["device 0", "device 0", "cpu"],
            "time_us": [0.0, 5.0, 5.0],
            "allocated_bytes": [1024, 3072, 8],
            "reserved_bytes": [4096.0, 4096.0, float("nan")],
        }
    )
    info = memory_info(table, "device 0", True)
    assert info.unused_bytes == (3072.0, 1024.0)
    figure = memory_plot(info)
    assert (
        figure.layout.title.text
        == "device 0: 3 KiB at most, up to 3 KiB more reserved and not in use (measured)"
    )
    allocated, reserved = figure.data
    assert (allocated.fill, reserved.fill) == ("tozeroy", "tonexty")
    assert tuple(reserved.customdata) == ("4 KiB, 3 KiB of it unused", "4 KiB, 1 KiB of it unused")
    assert memory_info(table, "device 0", False).unused_bytes is None, "bytes since the beginning"
    host = memory_info(table, "cpu", True)
    assert host.unused_bytes is None and len(memory_plot(host).data) == 1


def test_fragmentation_is_said_or_why_it_is_not() -> None:
    found = {"mean_bytes": 3 << 20, "mean_share": 0.25, "at_peak_bytes": 1 << 20}
    row = {"device": "device 0", "fragmentation": found}
    said = fragmentation_words(row)
    assert said is not None and "3 MiB on average, 25 % of what was reserved; 1 MiB when" in said
    for told in ({"fragmentation": None}, {}):
        said = fragmentation_words({"device": "device 0", **told})
        assert said is not None and "*not measured*" in said
    assert fragmentation_words({"device": "cpu"}) is None
