"""What operators started on a device: by hand, and on traces that other people's GPUs wrote, as if recorded here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from hybridlab.profiling.analysis.host import ROOT, HostTree, host_tree
from hybridlab.profiling.analysis.launches import launches, places_of
from hybridlab.profiling.joined import joined
from hybridlab.profiling.launched import DeviceEvent, by_call, launched
from hybridlab.profiling.perfetto import perfetto
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.reading.trace import Kind, Trace
from hybridlab.profiling.sweep import NODE, Swept, events_of, outermost, sweep
from hybridlab.profiling.work_tables import kernel_table, operator_table
from hybridlab.trace.kernels import device_us, kernels
from hybridlab.trace.stream import OPS, OpStream, stream_of
from tests.profiling.profiles import chain
from tests.profiling.traces import needs_real, real

HOST, DEVICE = "host", "device"
GPU_TRACES = (
    "hta-a100-test",
    "kineto-resnet50-v100",
    "tracelens-h100-vit",
    "tracelens-mi300-resnet",
)


@dataclass(frozen=True)
class Seen:
    """An event as the profiler's results give it."""

    of: str
    starts: int
    took: int
    kind: str = "cpu_op"
    thread: int = 1
    number: int = 0
    linked: int = 0
    sequence: int = -1
    where: str = HOST
    stream: int = 0
    size: int = 0

    def name(self) -> str:
        return self.of

    def start_ns(self) -> int:
        return self.starts

    def duration_ns(self) -> int:
        return self.took

    def activity_type(self) -> str:
        return self.kind

    def start_thread_id(self) -> int:
        return self.thread

    def correlation_id(self) -> int:
        return self.number

    def linked_correlation_id(self) -> int:
        return self.linked

    def sequence_nr(self) -> int:
        return self.sequence

    def device_type(self) -> str:
        return self.where

    def device_resource_id(self) -> int:
        return self.stream

    def nbytes(self) -> int:
        return self.size


@dataclass(frozen=True)
class Results:
    """The profiler's results."""

    seen: Sequence[Seen]

    def events(self) -> Sequence[Seen]:
        return self.seen


def kernel(name: str, starts: int, took: int, number: int = 0, linked: int = 0) -> Seen:
    return Seen(name, starts, took, "kernel", 0, number, linked, where=DEVICE, stream=7)


def step(number: int, at: int) -> list[Seen]:
    """Return a step of two operators forward and one backward on a thread of its own."""
    ids = 100 * number
    return [
        Seen(f"ProfilerStep#{number}", at, 1000, "user_annotation"),
        Seen("component: a", at + 10, 100, "user_annotation"),
        Seen("aten::exp", at + 20, 50, number=ids + 1),
        Seen("cudaLaunchKernel", at + 30, 10, "cuda_runtime", 999, ids + 51, ids + 1),
        Seen("component: b", at + 120, 100, "user_annotation"),
        Seen("aten::sin", at + 130, 60, number=ids + 2),
        # the call of this one was not recorded, its operator was
        kernel("sine", at + 260, 30 + number, linked=ids + 2),
        kernel("exponential", at + 100, 150 + number, ids + 51, ids + 1),
        Seen("a range", at + 90, 300, "gpu_user_annotation", where=DEVICE),
        Seen(f"{NODE}SinBackward", at + 400, 100, thread=2, sequence=4),
        Seen("aten::cos", at + 410, 80, thread=2, number=ids + 3),
        Seen("hipLaunchKernel", at + 420, 5, "hip_runtime", 998, ids + 53),
        Seen("hipLaunchKernel", at + 550, 5, "hip_runtime", 998, ids + 54),
        kernel("cosine", at + 430, 40, ids + 53),
        kernel("of nobody", at + 560, 80, ids + 54),
        Seen("[memory]", at + 25, 0, where=HOST, size=11),
        Seen("[memory]", at + 26, 0, where=DEVICE, size=64),
    ]


@pytest.fixture(scope="module")
def swept() -> Swept:
    found = events_of(Results([*step(1, 5_000), *step(0, 1_000)]), HOST, DEVICE)
    assert [size for _, size in found.memory] == [64, 64]
    assert {event.name for event in found.events if "Launch" in event.name} == set()
    made = sweep(found.events, {4: "b"}.get)
    made.launched = found.launched
    return made


def ops_of(*rows: tuple[str, str, str]) -> OpStream:
    """Return a stream of operators without storages: phase, component and name of each."""
    columns: dict[str, list[Any]] = {field.name: [None] * len(rows) for field in OPS}
    for place, name in enumerate(("phase", "component", "op")):
        columns[name] = [row[place] for row in rows]
    empty = {
        name: [] for name in ("bytes", "category", "component", "name", "born", "died", "saved")
    }
    return stream_of(columns, empty, "measured")


def test_backward_on_a_thread_of_its_own_is_part_of_the_step(swept: Swept) -> None:
    calls = {call.name: (call.component, call.phase) for call in swept.calls}
    assert calls == {
        "aten::exp": ("a", "forward"),
        "aten::sin": ("b", "forward"),
        "aten::cos": ("b", "backward"),
    }
    assert sum(swept.ns.values()) == sum(swept.step_ns) == 2000


def test_operators_have_what_they_started(swept: Swept) -> None:
    stream = ops_of(("forward", "a", "exp"), ("forward", "b", "sin"), ("backward", "b", "cos"))
    found, timed, held = joined(stream, swept)
    assert timed == 1.0
    assert kernels(found).drop_columns(["row"]).to_pylist() == [
        {
            "phase": phase,
            "component": component,
            "op": op,
            "kernel": name,
            "stream": 7,
            "start_us": start / 1e3,
            "dur_us": us / 1e3,
        }
        for phase, component, op, name, start, us in (
            ("forward", "a", "exp", "exponential", 100, 150.5),
            ("forward", "b", "sin", "sine", 260, 30.5),
            ("backward", "b", "cos", "cosine", 430, 40),
        )
    ]
    assert device_us(found).tolist() == pytest.approx([0.1505, 0.0305, 0.04])
    ran = [150, 151, 30, 31, 40, 40, 80, 80]
    assert held == pytest.approx(1 - 160 / sum(ran))
    table = operator_table(found).to_pylist()
    assert [row["kernels"] for row in table] == [1, 1, 1]
    assert table[0]["device_ms"] == pytest.approx(150.5e-6)
    assert kernel_table(found)["kernel"].to_pylist() == ["exponential", "cosine", "sine"]


def test_kernels_are_tracks_of_the_trace_and_stay_in_files(swept: Swept, tmp_path: Any) -> None:
    stream = ops_of(("forward", "a", "exp"), ("forward", "b", "sin"), ("backward", "b", "cos"))
    found = joined(stream, swept)[0]
    events = [e for e in json.loads(perfetto(found))["traceEvents"] if e.get("cat") == "kernel"]
    assert [(e["name"], e["tid"], e["args"]["component"]) for e in events] == [
        ("exponential", 7, "a"),
        ("sine", 7, "b"),
        ("cosine", 7, "b"),
    ]
    found.save(tmp_path)
    assert kernels(OpStream.load(tmp_path)) == kernels(found)


def test_where_nothing_runs_on_a_device_there_is_nothing(tmp_path: Any) -> None:
    stream = chain(torch.exp, torch.sin)
    assert len(kernels(stream)) == 0 and np.isnan(device_us(stream)).all()
    assert set(operator_table(stream)["device_ms"].to_pylist()) == {None}
    # Streams that were saved before there were columns of kernels.
    old = OpStream(stream.ops.select(OPS.names[:-4]), stream.storages, stream.source)
    old.save(tmp_path)
    again = OpStream.load(tmp_path)
    assert again.ops.schema.names == OPS.names and len(kernels(again)) == 0


def test_ids_are_found_and_missing_ones_told() -> None:
    wanted, ids = np.array([5, 9, 7, 5]), np.array([7, 5, 5])
    assert places_of(wanted, ids).tolist() == [1, ROOT, 0, 1]
    assert places_of(wanted, np.array([], dtype=np.int64)).tolist() == [ROOT] * 4
    events = [DeviceEvent("x", 0, 1, 0, 5, 8), DeviceEvent("y", 1, 1, 0, 0, 0)]
    found = launched(events, [(5, 70)], [(8, 60), (0, 10)])
    assert [(item.event.name, item.asked_ns) for item in found] == [("x", 70), ("y", None)]
    assert by_call(found, [(0, 50), (60, 70), (70, 71)]) == {2: [events[0]]}


def recorded(trace: Trace) -> list[Seen]:
    """Return a trace's events as the profiler gave them to whoever wrote it; an operator's id is its external one."""
    events, found = trace.events, []
    for row in range(len(events)):
        kind = Kind(int(events.kind[row]))
        there = kind in (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET)
        if not there and kind not in (Kind.OPERATOR, Kind.ANNOTATION, Kind.RUNTIME):
            continue
        external, number = int(events.external[row]), int(events.correlation[row])
        start, end = (round(1e3 * float(us[row])) for us in (events.start_us, events.end_us))
        found.append(
            Seen(
                trace.names[events.name[row]],
                start,
                end - start,
                trace.categories[events.category[row]].lower(),
                int(events.thread[row]),
                max(0, number if there or kind is Kind.RUNTIME else external),
                max(0, external) if there else 0,
                int(events.sequence[row]),
                DEVICE if there else HOST,
                max(0, int(events.stream[row])),
            )
        )
    return found


def by_tree(tree: HostTree, moments: dict[int, int]) -> dict[int, float]:
    """Return the µs on the device of what each outermost operator started, by what encloses what, on some threads."""
    operator = tree.kind == Kind.OPERATOR
    outer = operator & (tree.nearest(operator, own=False) == ROOT)
    found = launches(tree)
    owner = tree.nearest(outer)
    sums: dict[int, float] = {}
    for row, call in zip(found.rows.tolist(), found.call.tolist(), strict=True):
        if call != ROOT and owner[call] != ROOT and int(owner[call]) in moments:
            sums[int(owner[call])] = sums.get(int(owner[call]), 0.0) + float(
                tree.trace.events.dur_us[row]
            )
    return sums


@needs_real
@pytest.mark.parametrize("name", GPU_TRACES)
def test_on_real_gpus_operators_have_what_the_tree_of_calls_says(name: str) -> None:
    """The join of a measured run, given what a GPU recorded, finds what the reader of traces finds its own way."""
    trace = read_trace(real(name))
    tree = host_tree(trace)
    operator = tree.kind == Kind.OPERATOR
    outer = np.flatnonzero(operator & (tree.nearest(operator, own=False) == ROOT))
    seen = recorded(trace)
    found = 0.0
    for thread in np.unique(tree.thread[outer]).tolist():
        mine = outer[tree.thread[outer] == thread]
        spans = [
            (round(1e3 * float(tree.start_us[at])), round(1e3 * float(tree.end_us[at])))
            for at in mine
        ]
        recorded_here = events_of(
            Results([event for event in seen if event.where == DEVICE or event.thread == thread]),
            HOST,
            DEVICE,
        )
        started = by_call(recorded_here.launched, spans)
        want = by_tree(tree, dict.fromkeys(mine.tolist(), 0))
        got = {
            int(mine[place]): sum(event.dur_ns for event in events) / 1e3
            for place, events in started.items()
        }
        assert got == pytest.approx({at: us for at, us in want.items() if us}, rel=1e-6)
        found += sum(got.values())
    assert found > 0


@needs_real
@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("kineto-resnet50-v100", {"forward"}),  # of 2021: it does not name the nodes of backward
        ("tracelens-mi300-resnet", {"forward", "backward"}),
    ],
)
def test_a_real_training_step_has_its_kernels_in_the_op_stream(name: str, phases: set[str]) -> None:
    recorded_here = events_of(Results(recorded(read_trace(real(name)))), HOST, DEVICE)
    swept = sweep(recorded_here.events, lambda sequence: None)
    swept.launched = recorded_here.launched
    names = {call.name for call in swept.calls if call.name.startswith("aten::")}
    last = len(swept.step_ns) - 1
    calls = [call for call in outermost(swept.calls, names) if call.step == last]
    stream = ops_of(*((c.phase, c.component, c.name.removeprefix("aten::")) for c in calls))
    found, timed, held = joined(stream, swept)
    assert timed > 0.99 and held is not None
    inside = [
        item.event.dur_ns
        for item in swept.launched
        if item.asked_ns is not None
        and any(call.start_ns <= item.asked_ns < call.start_ns + call.dur_ns for call in calls)
    ]
    assert len(kernels(found)) == len(inside) > 100
    assert float(device_us(found).sum()) == pytest.approx(sum(inside) / 1e3, rel=0.05)
    assert set(kernels(found)["phase"].to_pylist()) == phases
