"""The tables behind the pictures of a trace add up to what the trace holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybridlab.profiling.analysis.groundwork import groundwork
from hybridlab.profiling.comparison import compare
from hybridlab.profiling.ranks import across_ranks
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.reading.trace import Trace
from hybridlab.profiling.saved_summary import restored
from hybridlab.profiling.summary import summarise
from hybridlab.profiling.trace_flame import flame, thinned, window
from hybridlab.profiling.trace_report import save, tables
from tests.profiling.traces import complete, launch, needs_real, real, training, written


def report(trace: Trace) -> dict[str, pd.DataFrame]:
    ground = groundwork(trace)
    return tables(ground, summarise(trace, ground))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return read_trace(written(tmp_path_factory.mktemp("t") / "t.json", training()))


@pytest.fixture(scope="module")
def made(trace: Trace) -> dict[str, pd.DataFrame]:
    return report(trace)


def test_kinds_of_work_add_up_to_each_step(made: dict[str, pd.DataFrame]) -> None:
    steps = made["steps"]
    kinds = steps[[name for name in steps if name.startswith("kind_")]]
    assert steps["step"].tolist() == ["4", "5"]
    np.testing.assert_allclose(kinds.sum(axis=1), steps["duration_us"])
    assert steps["kind_communication_us"].tolist() == [10.0, 10.0]
    assert steps["communication_us"].tolist() == [110.0, 110.0]


def test_bars_nest_as_calls_do_and_know_their_component(made: dict[str, pd.DataFrame]) -> None:
    bars, lanes = made["flame"], made["lanes"]
    first = bars[bars["start_us"] < 1_000]
    depth = dict(zip(first["name"].astype(str), first["depth"], strict=True))
    names = ["ProfilerStep#4", "nn.Module: Net_0", "nn.Module: Linear_0", "aten::linear"]
    assert [depth[name] for name in names] == [0, 1, 2, 3]
    kernels = first[first["kind"] == "kernel"].set_index("start_us")["component"].astype(str)
    assert kernels[60.0] == "Net_0/Linear_0" and kernels[540.0] == "Net_0/Linear_0"
    assert kernels[340.0] == "Net_0/Linear_1" and kernels[760.0] == "optimizer"
    assert set(lanes["title"]) >= {
        "thread 1",
        "thread 2",
        "device 0, stream 7",
        "device 0, stream 9",
    }
    assert int(lanes["events"].sum()) == len(bars) == int(made["flame_kept"]["events"].iloc[0])


def crowd(tmp_path: Path, count: int = 3_000) -> Trace:
    events: list[Any] = [complete("cpu_op", "long", 0, count * 10.0)]
    events += [complete("cpu_op", f"op{i % 7}", 10.0 * i, 4.0) for i in range(count)]
    return read_trace(written(tmp_path / "crowd.json", events))


def test_short_bars_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    ground = groundwork(crowd(tmp_path))
    whole, kept = flame(ground), flame(ground, most=1_000)
    assert len(whole.bars) == whole.single == 3_001
    assert kept.events == 3_001 and kept.single < 1_010 and "long" in set(kept.bars["name"])
    assert len(kept.bars) < 2_010 and len(flame(ground, most=100).bars) < 210
    for found in (kept.bars, window(whole.bars, 0, 30_000), window(whole.bars, 0, 30_000, most=50)):
        assert int(found["events"].sum()) == 3_001
        assert found["busy_us"].sum() == pytest.approx(30_000 + 3_000 * 4)
    assert len(window(whole.bars, 0, 30_000, most=50)) <= 50


def test_a_window_holds_what_runs_in_it_cut_to_it(tmp_path: Path) -> None:
    bars = flame(groundwork(crowd(tmp_path))).bars
    seen = window(bars, 1_002, 1_022)
    assert seen["name"].astype(str).tolist() == ["long", "op2", "op3", "op4"]
    assert seen["start_us"].tolist() == [1_002, 1_002, 1_010, 1_020]
    assert seen["dur_us"].tolist() == [20, 2, 4, 2]


def test_a_thinned_curve_keeps_its_extremes() -> None:
    time = np.arange(100_000, dtype=float)
    values = np.sin(time / 50)
    values[[12_345, 80_001]] = 99, -99
    keep = thinned(time, values, 500)
    assert len(keep) <= 2_001 and {0, 12_345, 80_001, 99_999} <= set(keep.tolist())
    assert (np.diff(keep) > 0).all()


def test_sizes_of_collectives_come_from_kernels_or_the_range_around_their_launch(
    tmp_path: Path,
) -> None:
    told = {"Collective name": "allreduce", "dtype": "BFloat16", "Group size": 8}
    told |= {"In msg nelems": 1_000, "Out msg nelems": 2_000}
    events = [complete("user_annotation", "nccl:all_reduce", 0, 50)]
    events += [complete("cpu_op", "record_param_comms", 1, 30, **told)]
    events += launch(1, 5, 5, 20, 100, kernel="ncclDevKernel_Generic")
    events += launch(2, 100, 5, 130, 100, kernel="ncclDevKernel_Generic")
    events[-1]["args"] |= told
    events += launch(3, 300, 5, 310, 10, kernel="ncclDevKernel_Other")
    events += launch(4, 300, 5, 140, 40, kernel="gemm", stream=3)
    rows = report(read_trace(written(tmp_path / "t.json", events)))["collectives"]
    sized, other = rows.to_dict("records")
    assert (sized["name"], sized["calls"], sized["message_bytes"]) == ("allreduce", 2, 4_000)
    assert (sized["processes"], sized["total_us"], sized["exposed_us"]) == (8, 200, 160)
    assert sized["gbytes_per_s"] == pytest.approx(4_000 / 100 / 1e3)
    assert other["name"] == "ncclDevKernel_Other" and pd.isna(other["message_bytes"])


def test_begin_and_end_events_are_what_complete_ones_are(tmp_path: Path) -> None:
    pairs: list[Any] = []
    for event in training():
        if event["ph"] == "X":
            begin = {k: v for k, v in event.items() if k != "dur"} | {"ph": "B"}
            end = {"ph": "E", "pid": event["pid"], "tid": event["tid"]}
            pairs += [begin, end | {"ts": event["ts"] + event["dur"]}]
        else:
            pairs.append(event)

    def in_order(event: dict[str, Any]) -> tuple[float, int]:
        return event["ts"], 0 if event["ph"] == "E" else 1

    # The kernels' annotation overlaps kernels of its stream, which pairs cannot say.
    plain = [e for e in training() if e["cat"] != "gpu_user_annotation"]
    pairs = [e for e in pairs if e.get("cat") != "gpu_user_annotation"]
    pairs = [e for e in pairs if not (e["ph"] == "E" and e["ts"] % 1_000 == 930)]
    one = summarise(read_trace(written(tmp_path / "x.json", plain))).as_dict()
    other = summarise(
        read_trace(written(tmp_path / "p.json", sorted(pairs, key=in_order)))
    ).as_dict()
    assert {**one, "path": ""} == {**other, "path": ""}


def test_counters_of_the_hardware_are_kept_by_kernel(tmp_path: Path) -> None:
    def counted(ts: float, **values: Any) -> dict[str, Any]:
        return complete("cuda_profiler_range", "gemm", ts, 5, **values)

    events = [complete("cpu_op", "a", 0, 1), counted(5, ffma=10, note="x"), counted(20, ffma=30)]
    (row,) = report(read_trace(written(tmp_path / "t.json", events)))["counters"].to_dict("records")
    expected = {"kernel": "gemm", "counter": "ffma", "ranges": 2}
    assert row == expected | {"total": 40.0, "mean": 20.0, "largest": 30.0}


@needs_real
def test_real_counters_and_collectives() -> None:
    counters = report(read_trace(real("hta-cupti-counters")))["counters"]
    assert counters["counter"].nunique() == 9
    name = "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum"
    raw = [found.counters[name] for found in read_trace(real("hta-cupti-counters")).counted]
    assert len(raw) == 77
    assert counters.loc[counters["counter"] == name, "total"].sum() == sum(raw) > 9e9
    sized = report(read_trace(real("tracelens-mi300")))["collectives"]
    largest = sized.iloc[0]
    assert (largest["name"], largest["calls"]) == ("allreduce", 3)
    assert largest["message_bytes"] == 8_816_192 * 2 and largest["processes"] == 8


def test_a_saved_summary_compares_as_the_trace_does(trace: Trace, tmp_path: Path) -> None:
    summary = summarise(trace)
    saved = restored(json.loads(json.dumps(summary.as_dict())))
    assert compare(saved, summary).as_dict() == compare(summary, summary).as_dict()
    assert across_ranks([saved]) == across_ranks([trace])
    without = {"memory": [], "memory_timeline": None}
    assert saved.as_dict() | without == summary.as_dict() | without


def test_tables_come_back_from_their_files(made: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    save(made, tmp_path / "report")
    assert {file.stem for file in (tmp_path / "report").iterdir()} == set(made)
    back = pd.read_parquet(tmp_path / "report" / "flame.parquet")
    pd.testing.assert_frame_equal(back, made["flame"])
