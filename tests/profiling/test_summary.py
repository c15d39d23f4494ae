"""The figures of a trace made by hand, where each can be worked out on paper."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridlab.errors import TraceError
from hybridlab.profiling.analysis.host import ROOT, host_tree
from hybridlab.profiling.analysis.memory import timeline_curve
from hybridlab.profiling.analysis.ranges import intersection, shares, union
from hybridlab.profiling.comparison import compare
from hybridlab.profiling.ranks import across_ranks
from hybridlab.profiling.reading.limits import Limits
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.reading.trace import Trace
from hybridlab.profiling.summary import TraceSummary, frame, summarise
from tests.profiling.traces import complete, launch, needs_real, real, training, written


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    fields = {
        "deviceProperties": [
            {"id": 0, "name": "Toy", "totalGlobalMem": 9, "numSms": 2, "computeMajor": 9}
        ],
        "distributedInfo": {"rank": 1, "world_size": 2},
    }
    return written(folder / "training.json.gz", training(), **fields)


@pytest.fixture(scope="module")
def summary(path: Path) -> TraceSummary:
    return summarise(read_trace(path))


def test_steps_count_once_and_their_time_adds_up(summary: TraceSummary) -> None:
    assert [step.name for step in summary.steps.steps] == ["4", "5"]
    for step in summary.steps.steps:
        assert step.duration_us == 900
        assert sum(step.by_category.values()) == pytest.approx(900)
    categories = summary.categories
    # 440 µs of kernels that compute: 60 to 210 without a gap, then 30, 20, 200 and 40.
    assert categories["kernel"] == 440
    # The collective runs from 650 to 750, beside a kernel until 740; its call on the host starts at 640.
    assert categories["communication"] == 10
    assert categories["data_loader"] == 40
    first = summary.steps.steps[0]
    assert (first.computation_us, first.communication_us, first.overlap_us) == (440, 110, 100)
    assert summary.communication.overlap == pytest.approx(0.9)


def test_operators_have_host_and_device_time(summary: TraceSummary) -> None:
    rows = {row.name: row for row in summary.operators}
    linear, addmm = rows["aten::linear"], rows["aten::addmm"]
    assert (linear.calls, linear.host_us, linear.host_self_us) == (2, 140, 20)
    assert (linear.device_us, linear.device_self_us) == (200, 0)
    assert (addmm.calls, addmm.host_us, addmm.host_self_us) == (4, 240, 200)
    assert (addmm.device_us, addmm.device_self_us) == (300, 300)
    assert not any(name.startswith(("Profiler", "Optimizer", "nccl")) for name in rows)


def test_kernels(summary: TraceSummary) -> None:
    rows = {row.name: row for row in summary.kernels}
    gemm = rows["gemm"]
    assert (gemm.calls, gemm.total_us, gemm.max_us, gemm.min_us) == (10, 800, 200, 20)
    assert (gemm.mean_us, gemm.blocks_per_sm, gemm.occupancy) == (80, 0.5, 40)
    (use,) = summary.device_use
    assert use.busy == pytest.approx((150 + 30 + 20 + 210 + 40) * 2 / 1900)
    assert use.occupancy == 40
    frames = frame(summary.kernels)
    assert frames.total_us.sum() == sum(row.total_us for row in summary.kernels)


def test_backward_goes_to_the_module_whose_forward_it_is(summary: TraceSummary) -> None:
    rows = {row.path: row for row in summary.components}
    first, second = rows["Net_0/Linear_0"], rows["Net_0/Linear_1"]
    # An arrow leads from the last evaluation to Linear_0; Linear_1's is found by its sequence number,
    # and what accumulates its gradient goes with it.
    assert (first.calls, first.device_us, first.device_backward_us) == (2, 600, 400)
    assert (second.calls, second.device_us, second.device_backward_us) == (2, 200, 100)
    assert rows["Net_0"].device_us == 0 and rows["Net_0"].device_total_us == 800
    assert rows["communication"].device_us == 200
    assert rows["optimizer"].device_us == 80
    assert summary.attributed == pytest.approx(800 / 1080)
    assert summary.attributed_with_phases == 1
    assert summary.without_launch == 0


def test_without_links_backward_is_nobodys(path: Path, tmp_path: Path) -> None:
    events = [e for e in training() if e.get("cat") != "fwdbwd"]
    for event in events:
        event.get("args", {}).pop("Sequence number", None)
    found = summarise(read_trace(written(tmp_path / "t.json", events)))
    rows = {row.path: row for row in found.components}
    assert rows["other"].device_us == 500
    assert found.attributed == pytest.approx(300 / 1080)


def test_memory_idle_delays_and_queues(summary: TraceSummary) -> None:
    (curve,) = summary.memory
    assert (curve.device, curve.peak_bytes, curve.peak_reserved_bytes) == ("device 0", 4608, 8192)
    assert curve.allocations == 2 and curve.absolute
    # 3584 bytes are unused from 30 to 600 and from 1030 to 1600 µs, 4096 from 600 to 1030.
    mean = (3584 * 2 * 570 + 4096 * 430) / (2 * 570 + 430)
    found = curve.fragmentation
    assert found is not None and (found.most_bytes, found.at_peak_bytes) == (4096, 3584)
    assert (found.mean_bytes, found.mean_share) == pytest.approx((mean, mean / 8192))
    (told,) = summary.as_dict()["memory"]
    assert told["fragmentation"]["mean_bytes"] == pytest.approx(mean)
    streams = {row.stream: row for row in summary.idle}
    assert streams[9].host_wait_us == 900  # from the end of one collective to the start of the next
    assert summary.launch_delays is not None
    assert summary.launch_delays.kernels == 14
    assert summary.launch_delays.max_us == 30
    assert all(queue.max == 1 for queue in summary.queues)
    assert (summary.rank, summary.world_size, summary.devices[0].name) == (1, 2, "Toy")


@needs_real
@pytest.mark.parametrize(
    ("name", "share"), [("tracelens-h100-vit", 0.0938), ("tracelens-h100-qwen", 0.4205)]
)
def test_fragmentation_of_real_gpus_is_what_their_memory_events_add_up_to(
    name: str, share: float
) -> None:
    """The judge reads the file by itself, event by event."""
    content = json.loads(gzip.decompress(real(name).read_bytes()), strict=False)
    told = [
        (event["ts"], event["args"]["Total Allocated"], event["args"]["Total Reserved"])
        for event in content["traceEvents"]
        if event.get("name") == "[memory]" and event["args"]["Device Type"] == 1
    ]
    told.sort(key=lambda one: one[0])
    area = held = 0.0
    for (ts, allocated, reserved), (until, *_) in itertools.pairwise(told):
        area += (reserved - allocated) * (until - ts)
        held += reserved * (until - ts)
    curves = {curve.device: curve for curve in summarise(read_trace(real(name))).memory}
    assert curves["cpu"].fragmentation is None
    found = curves["device 0"].fragmentation
    assert found is not None
    assert found.most_bytes == max(reserved - allocated for _, allocated, reserved in told)
    peak = max(told, key=lambda one: one[1])
    assert found.at_peak_bytes == peak[2] - peak[1]
    assert found.mean_bytes == pytest.approx(area / (told[-1][0] - told[0][0]), rel=1e-6)
    assert (
        found.mean_share == pytest.approx(area / held, rel=1e-6) == pytest.approx(share, abs=1e-4)
    )


@needs_real
def test_a_trace_that_does_not_tell_what_is_reserved_has_no_fragmentation() -> None:
    found = summarise(read_trace(real("kineto-resnet50"))).memory
    assert found and all(curve.fragmentation is None for curve in found)


def test_the_critical_path_goes_back_and_forth_between_host_and_device(tmp_path: Path) -> None:
    events = [
        complete("user_annotation", "ProfilerStep#0", 0, 200),
        complete("cpu_op", "aten::mm", 0, 50),
        *launch(1, 10, 5, 30, 40),  # launched at 10, begins at 30, ends at 70
        *launch(2, 20, 5, 75, 25),  # waits for it, and ends at 100
        complete("cuda_runtime", "cudaDeviceSynchronize", 60, 45),  # until 105
        complete("cpu_op", "aten::add", 110, 30),
        *launch(3, 120, 5, 130, 70, kernel="last"),
    ]
    (path,) = summarise(read_trace(written(tmp_path / "t.json", events))).critical_paths
    assert path.by_kind == {
        "host": 10 + 15,
        "kernel": 40 + 25 + 70,
        "copy": 0,
        "launch_delay": 20 + 10,
        "kernel_delay": 5,
        "wait": 5,
        "unknown": 0,
    }
    assert path.longest == (("last", 70), ("gemm", 65)) and path.bound_by == "kernel"


def test_pieces_make_no_difference(path: Path, summary: TraceSummary) -> None:
    """Cuts between events are guessed and checked; wherever they fall, the same comes out."""
    for size in (700, 1_999, 5_000, 40_000):
        found = summarise(read_trace(path, Limits(piece_bytes=size)))
        assert found.as_dict() == summary.as_dict()


@pytest.mark.parametrize(
    "write",
    [
        lambda events: json.dumps(events),
        lambda events: json.dumps(events)[:-1],
        lambda events: json.dumps(events, indent=1)[:-1] + ",\n",
        lambda events: json.dumps(
            {"a": {"traceEvents": [1]}, "traceEvents": events, "z": 'x "]},{'}
        ),
        lambda events: "\ufeff \n" + json.dumps({"b": '"traceEvents": [', "traceEvents": events}),
        lambda events: json.dumps({"traceEvents": events, "stackFrames": {"1": {"name": "},{"}}}),
    ],
    ids=["bare", "unclosed", "trailing comma", "decoys", "mark", "after"],
)
def test_forms_of_the_file(write: Callable[[Any], str], tmp_path: Path) -> None:
    events = [
        complete("cpu_op", 'tricky },{ "ph": "X" [', 10 * i, 5, more=[{"a": 1}, {"b": {"c": 2}}])
        for i in range(60)
    ]
    path = tmp_path / "t.json"
    path.write_text(write(events), encoding="utf-8")
    for size in (300, 1 << 20):
        trace = read_trace(path, Limits(piece_bytes=size))
        assert len(trace.events) == 60
        assert trace.events.dur_us.sum() == 300


def test_a_raw_memory_timeline(tmp_path: Path) -> None:
    rows = [[-1, 1, 100, 0], [-1, 1, 50, 7], [5, 2, 40, 4], [5, 2, 7, 3], [9, 4, -40, 4]]
    path = tmp_path / "timeline.raw.json"
    path.write_text(json.dumps(rows))
    for size in (20, 1 << 20):
        trace = read_trace(path, Limits(piece_bytes=size))
        assert trace.timeline is not None
        curve = timeline_curve(trace.timeline)
        assert curve.time_ns.tolist() == [5, 9] and curve.peak_bytes == 197
        assert curve.at_peak["activation"] == 40 and curve.at_peak["temporary"] == 7
    assert summarise(trace).as_dict()["memory_timeline"]["peak_bytes"] == 197


def test_ranges_against_counting_moments() -> None:
    random = np.random.default_rng(0)
    whole = np.arange(200.0)
    roles = []
    for _ in range(3):
        starts = random.integers(0, 180, 12).astype(float)
        roles.append((starts, starts + random.integers(0, 20, 12)))
    held = [((s[:, None] <= whole) & (whole < e[:, None])).any(axis=0) for s, e in roles]
    merged = [union(s, e) for s, e in roles]
    assert [r.total for r in merged] == [h.sum() for h in held]
    assert intersection(merged[0], merged[1]).total == (held[0] & held[1]).sum()
    (row,) = shares(merged, [(17.0, 150.0)])
    inside = slice(17, 150)
    first, second, third = (h[inside] for h in held)
    assert row.tolist() == [
        first.sum(),
        (second & ~first).sum(),
        (third & ~first & ~second).sum(),
        (~(first | second | third)).sum(),
    ]


def test_the_tree_of_calls_against_a_stack(tmp_path: Path) -> None:
    """Nested calls at random, many with the same start, some of no length: what a stack says is what encloses what."""
    random = np.random.default_rng(1)
    spans: list[tuple[int, int]] = []

    def grow(start: int, end: int, depth: int) -> None:
        spans.append((start, end))
        cuts = sorted(random.integers(start, end + 1, 4).tolist())
        if depth:
            for a, b in ((cuts[0], cuts[1]), (cuts[1], cuts[2]), (cuts[2], cuts[3])):
                if (a, b) != (start, end):
                    grow(a, b, depth - 1)

    for tree in range(20):
        grow(tree * 1_000, tree * 1_000 + 997, 4)
    events = [complete("cpu_op", "op", a, b - a) for a, b in spans]
    tree = host_tree(read_trace(written(tmp_path / "t.json", events)))
    stack: list[int] = []
    for at in range(len(tree)):
        start, end = tree.start_us[at], tree.end_us[at]
        while stack and not (start < tree.end_us[stack[-1]] and end <= tree.end_us[stack[-1]]):
            stack.pop()
        assert tree.parent[at] == (stack[-1] if stack else ROOT)
        stack.append(at)


def test_what_got_slower_and_why(path: Path, tmp_path: Path, summary: TraceSummary) -> None:
    events = training()
    for event in events:
        if event["cat"] == "kernel" and event["name"] == "add":
            event["dur"] *= 2  # the same calls, each twice as long
    events += launch(900, 1_000_270, 5, 1_000_275, 80)  # one more call in one of two steps
    found = compare(read_trace(path), read_trace(written(tmp_path / "b.json", events)))
    rows = {row.name: row for row in found.kernels}
    assert (rows["add"].change_us, rows["add"].reason) == (40, "slower calls")
    assert (rows["gemm"].change_us, rows["gemm"].from_calls_us) == (40, 40)
    assert rows["gemm"].reason == "more calls"
    assert rows["ncclDevKernel_AllReduce"].reason == "same"
    for row in (*found.kernels, *found.operators, *found.components):
        assert row.change_us == pytest.approx(row.from_calls_us + row.from_time_us)
    same = compare(summary, summary)
    assert {row.reason for row in (*same.kernels, *same.operators, *same.components)} == {"same"}


def test_a_recomputed_block_keeps_its_path(tmp_path: Path) -> None:
    def module(name: str, ts: float, dur: float, tid: int) -> dict[str, Any]:
        return complete("python_function", f"nn.Module: {name}", ts, dur, tid=tid)

    events = [
        module("Net_0", 0, 100, 1),
        module("Block_3", 10, 50, 1),
        complete("cpu_op", "aten::mm", 20, 20, **{"Sequence number": 5}),
        complete(
            "cpu_op",
            "autograd::engine::evaluate_function: MmBackward0",
            200,
            90,
            tid=2,
            **{"Sequence number": 5, "Fwd thread id": 1},
        ),
        module("Block_3", 210, 40, 2),
        complete("cpu_op", "aten::mm", 220, 20, tid=2, **{"Sequence number": 9}),
        *launch(1, 225, 5, 240, 7, tid=2),
    ]
    found = summarise(read_trace(written(tmp_path / "t.json", events)))
    rows = {row.path: row for row in found.components}
    assert set(rows) >= {"Net_0", "Net_0/Block_3"} and "Block_3" not in rows
    assert rows["Net_0/Block_3"].device_backward_us == 7 and rows["Net_0/Block_3"].calls == 1


def test_ranks_beside_each_other(tmp_path: Path) -> None:
    def rank(number: int, slow: float = 1.0, late: float = 0.0) -> Trace:
        events = training()
        for event in events:
            event["ts"] += late
            if event["cat"] == "kernel" and event["name"] == "add":
                event["dur"] *= slow
        fields = {"distributedInfo": {"rank": number, "world_size": 4}}
        return read_trace(written(tmp_path / f"{number}.json", events, **fields))

    found = across_ranks([rank(3, slow=2), rank(0, late=2e6)])
    assert [row.rank for row in found.rows] == [0, 3]
    assert (found.slowest, found.missing, found.world_size) == (3, (1, 2), 4)
    assert found.rows[0].starts_late_us == pytest.approx(2e6)
    assert [row.exposed_us for row in found.rows] == pytest.approx([10, 10])
    said = " ".join(found.notes)
    assert "2 of the ranks are missing here: 1, 2" in said and "more than a second apart" in said
    with pytest.raises(TraceError, match="both of rank 3"):
        across_ranks([rank(3), rank(3)])
    with pytest.raises(TraceError, match="no trace"):
        across_ranks([])
