"""Real traces that other people made: our figures beside torch-tb-profiler's and HolisticTraceAnalysis's own.

Where theirs are wrong, the test shows it: both programs stopped following Kineto, each at another place.
"""

from __future__ import annotations

import gzip
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridlab.profiling.comparison import compare
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.summary import TraceSummary, summarise
from tests.profiling.traces import needs_real, real

pytestmark = needs_real
RESNET, VIT, QWEN = "kineto-resnet50", "tracelens-h100-vit", "tracelens-h100-qwen"
MI300, MI250, A100 = "tracelens-mi300", "hta-mi250", "hta-a100-control"
TEST, WAITS = "hta-a100-test", "hta-critical-path"
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
EVENTS = {
    RESNET: (44_666, 6),
    VIT: (3_917, 1),
    QWEN: (12_080, 1),
    MI300: (49_208, 3),
    MI250: (113, 1),
    A100: (74_937, 6),
    TEST: (68_324, 6),
    "hta-cpu-only": (16, 1),
    WAITS: (838, 1),
    "hta-cupti": (2_324, 1),
}
_READ: dict[str, TraceSummary] = {}


def ours(name: str) -> TraceSummary:
    if name not in _READ:
        _READ[name] = summarise(read_trace(real(name)))
    return _READ[name]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let the peers warn: their warnings are not ours to mend."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def tensorboard(path: Path) -> Any:
    from torch_tb_profiler.profiler.data import RunProfileData

    return RunProfileData.parse("worker", "1", str(path), str(path.parent))


def as_in_2021(name: str, folder: Path) -> Path:
    """Write a trace with the categories of 2021, the last that torch-tb-profiler knows."""
    trace = json.loads(gzip.decompress(real(name).read_bytes()))
    events = [e for e in trace["traceEvents"] if e.get("cat") != "gpu_user_annotation"]
    for event in events:
        if event.get("cat") in ("cuda_runtime", "cuda_driver"):
            event["cat"] = "Runtime"
    path = folder / "trace.json"
    path.write_text(json.dumps(trace | {"traceEvents": events}))
    return path


def test_every_trace_opens_with_its_totals() -> None:
    for name, (events, steps) in EVENTS.items():
        found = ours(name)
        assert (found.events, len(found.steps.steps)) == (events, steps), name
        assert not any("not known" in note for note in found.notes), name
        for step in found.steps.steps:
            assert sum(step.by_category.values()) == pytest.approx(step.duration_us)
        for path in found.critical_paths:
            assert sum(path.by_kind.values()) == pytest.approx(path.duration_us)
            assert min(path.by_kind.values()) >= 0
        by_kernel = sum(row.total_us for row in found.kernels)
        everywhere = sum(row.device_us for row in found.components)
        assert everywhere >= by_kernel - 1e-3, name  # copies and fills come on top
        if found.kernels:
            assert found.without_launch is not None and found.attributed is not None
            assert found.attributed <= 1 - found.without_launch + 1e-9 or name == MI300


def agree(found: TraceSummary, theirs: Any, name: str) -> None:
    """Assert that every figure of theirs equals ours, operator by operator and kernel by kernel."""
    assert [step.name for step in found.steps.steps] == theirs.steps_names
    operators = {row.name: row for row in found.operators}
    assert set(operators) == {row.name for row in theirs.op_list_groupby_name}
    for row in theirs.op_list_groupby_name:
        mine = operators[row.name]
        assert mine.calls == row.calls
        assert (mine.host_us, mine.host_self_us, mine.device_us, mine.device_self_us) == (
            pytest.approx(
                (
                    row.host_duration,
                    row.self_host_duration,
                    row.device_duration,
                    row.self_device_duration,
                ),
                rel=1e-6,
                abs=0.05,
            )
        )
    kernels = {row.name: row for row in found.kernels}
    if theirs.kernel_stat is not None:
        assert set(kernels) == set(theirs.kernel_stat.index)
        for kernel, row in theirs.kernel_stat.iterrows():
            mine = kernels[kernel]
            assert (mine.calls, mine.total_us, mine.mean_us, mine.max_us, mine.min_us) == (
                pytest.approx((row["count"], row["sum"], row["mean"], row["max"], row["min"]))
            )
            assert (mine.blocks_per_sm or 0, mine.occupancy or 0) == (
                pytest.approx((row.blocks_per_sm, row.occupancy))
            )
    metrics = theirs.gpu_metrics_parser
    for use in found.device_use:
        assert use.busy == pytest.approx(metrics.gpu_utilization[use.device], rel=1e-6)
        efficiency = metrics.avg_approximated_sm_efficiency_per_device[use.device]
        assert use.sm_efficiency == pytest.approx(efficiency, rel=1e-6)
        assert use.occupancy == pytest.approx(metrics.avg_occupancy_per_device[use.device])


def test_equal_to_torch_tb_profiler_to_the_last_operator_where_it_is_right() -> None:
    theirs, found = tensorboard(real(RESNET)), ours(RESNET)
    agree(found, theirs, RESNET)
    assert list(found.categories.values()) == pytest.approx(theirs.avg_costs.costs[:-1])
    mine = [(s.computation_us, s.communication_us, s.overlap_us) for s in found.steps.steps]
    costs = [(c.computation, c.communication, c.overlap) for c in theirs.comm_overlap_costs]
    assert mine == costs
    peak = {curve.device: curve.peak_bytes for curve in found.memory}
    assert peak["device 0"] > 2 * 1024**3


@pytest.mark.parametrize("name", [VIT, QWEN, MI250, MI300])
def test_torch_tb_profiler_is_wrong_since_2022_and_right_once_categories_are_renamed(
    name: str, tmp_path: Path
) -> None:
    found = ours(name)
    if name != MI300:
        plain = tensorboard(real(name))
        assert sum(row.device_duration for row in plain.op_list_groupby_name) == 0
        assert sum(row.device_self_us for row in found.operators) > 0
        assert len(plain.steps_names) > len(found.steps.steps)  # each step again, on the device
    renamed = tensorboard(as_in_2021(name, tmp_path))
    agree(found, renamed, name)
    costs = dict(zip(found.categories, renamed.avg_costs.costs, strict=False))
    if name == MI300:
        # Its collectives go by names that torch-tb-profiler does not know: counted as computation, none is left.
        assert costs["communication"] < 1 and found.categories["communication"] > 10_000
        together = found.categories["communication"] + found.categories["kernel"]
        assert together == pytest.approx(costs["communication"] + costs["kernel"], rel=0.01)
    else:
        assert found.categories == pytest.approx(costs)


def test_more_kernels_use_matrix_cores_than_the_list_of_2020_knows() -> None:
    names = {row.name for row in ours(VIT).kernels if row.matrix_cores}
    assert any("flash_fwd" in name for name in names)
    assert any("xmma_gemm" in name for name in names)


def test_kernels_belong_to_modules() -> None:
    found = ours(VIT)
    assert found.attributed is not None and found.attributed >= 0.97
    qwen = ours(QWEN)
    assert qwen.attributed is not None and qwen.without_launch is not None
    # Kernels whose launch came before the recording are nobody's; of the others nearly all have a module.
    assert qwen.attributed / (1 - qwen.without_launch) >= 0.97
    training = {row.path: row for row in ours(MI300).components}
    assert training["optimizer"].device_us > 0
    assert sum(row.device_backward_us for row in training.values() if row.kind == "module") > 0


@pytest.fixture(scope="module")
def hta() -> Any:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hta.trace_analysis import TraceAnalysis

        return TraceAnalysis(
            trace_files={0: str(real(A100))}, trace_dir="", include_last_profiler_step=True
        )


def test_equal_to_holistic_trace_analysis(hta: Any) -> None:
    found = ours(A100)
    (row,) = hta.get_temporal_breakdown(visualize=False).to_dict("records")
    assert found.breakdown is not None
    mine = found.breakdown
    assert (mine.idle_us, mine.computation_us, mine.other_us, mine.span_us) == (
        row["idle_time(us)"],
        row["compute_time(us)"],
        row["non_compute_time(us)"],
        row["kernel_time(us)"],
    )
    (row,) = hta.get_comm_comp_overlap(visualize=False).to_dict("records")
    assert found.communication.overlap == pytest.approx(
        row["comp_comm_overlap_pctg"] / 100, abs=5e-5
    )
    idle = hta.get_idle_time_breakdown(visualize=False)[0]
    theirs = {(r.stream, r.idle_category): r.idle_time for r in idle.itertuples()}
    for stream in found.idle:
        assert stream.host_wait_us == theirs[stream.stream, "host_wait"]
        assert stream.kernel_wait_us == theirs[stream.stream, "kernel_wait"]
        assert stream.other_us == theirs[stream.stream, "other"]


def holistic(trace: Path) -> Any:
    """Return a trace as the peer has read it."""
    from hta.trace_analysis import TraceAnalysis

    return TraceAnalysis(trace_files={0: str(trace)}, trace_dir="", include_last_profiler_step=True)


def holistic_breakdown(trace: Path) -> tuple[float, ...]:
    """Return idle, computing, other and whole time of a trace's device, in µs, as the peer has them."""
    (row,) = holistic(trace).get_temporal_breakdown(visualize=False).to_dict("records")
    kinds = ("idle_time(us)", "compute_time(us)", "non_compute_time(us)", "kernel_time(us)")
    return tuple(row[kind] for kind in kinds)


def breakdown(summary: TraceSummary) -> tuple[float, ...]:
    """Return the same of ours."""
    found = summary.breakdown
    assert found is not None
    return found.idle_us, found.computation_us, found.other_us, found.span_us


def test_an_old_trace_breaks_down_as_in_holistic_trace_analysis() -> None:
    assert breakdown(ours(RESNET)) == holistic_breakdown(real(RESNET))


def test_holistic_trace_analysis_takes_the_hosts_waiting_for_work_of_the_device(
    tmp_path: Path,
) -> None:
    """CUPTI tells a wait with the stream it is for; without the 41 of them the peer says what we say."""
    content = json.loads(gzip.decompress(real(WAITS).read_bytes()), strict=False)
    events = content["traceEvents"]
    content["traceEvents"] = [event for event in events if event.get("cat") != "cuda_sync"]
    assert len(events) - len(content["traceEvents"]) == 41
    path = tmp_path / "without.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    mine = breakdown(ours(WAITS))
    assert mine == holistic_breakdown(path)
    assert holistic_breakdown(real(WAITS))[3] - mine[3] == 438_764, "µs that no kernel took"


@pytest.mark.parametrize("name", [MI300, QWEN])
def test_what_holistic_trace_analysis_cannot_open_opens_here(name: str) -> None:
    """It ends in an error of its own code: numbers of 16 bits overflow, or it misses what it looks for."""
    with pytest.raises((TypeError, AssertionError)):
        holistic_breakdown(real(name))
    assert sum(breakdown(ours(name))[:3]) > 0


def without_orphans(name: str, folder: Path) -> tuple[Path, int, int]:
    """Write a trace without the work whose launch came before it; return it, the count of all work, and of that."""
    content = json.loads(gzip.decompress(real(name).read_bytes()), strict=False)
    events = content["traceEvents"]
    launched = {
        event["args"].get("correlation")
        for event in events
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "args" in event
    }
    work = [event for event in events if event.get("cat") in ON_DEVICE]
    orphans = [event for event in work if event["args"].get("correlation") not in launched]
    gone = set(map(id, orphans))
    content["traceEvents"] = [event for event in events if id(event) not in gone]
    path = folder / "without.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path, len(work), len(orphans)


def test_holistic_trace_analysis_leaves_out_kernels_whose_launch_came_before(
    tmp_path: Path,
) -> None:
    """614 of 15,632 pieces of a device's work: ours counts them, and without them says the same."""
    path, work, orphans = without_orphans(TEST, tmp_path)
    assert (work, orphans) == (15_632, 614)
    theirs, whole = holistic_breakdown(real(TEST)), breakdown(ours(TEST))
    assert whole[1] - theirs[1] > 30_000, "computing that theirs does not see, in µs"
    assert breakdown(summarise(read_trace(path))) == theirs


def test_what_it_cannot_open_it_says_as_we_do_once_its_numbers_are_wider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row numbers of 16 bits are too small for 49,208 events; 968 of 3,653 kernels came before, as above."""
    from hta.common import trace as reading

    narrow = reading.transform_correlation_to_index

    def wide(events: Any, symbols: Any) -> Any:
        small = events.select_dtypes(["int8", "int16"]).columns
        return narrow(events.astype(dict.fromkeys(small, "int32")), symbols)

    monkeypatch.setattr(reading, "transform_correlation_to_index", wide)
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")
    path, work, orphans = without_orphans(MI300, tmp_path)
    assert (work, orphans) == (3_653, 968)
    theirs = holistic_breakdown(real(MI300))
    assert breakdown(summarise(read_trace(path))) == pytest.approx(theirs, abs=0.1)
    assert breakdown(ours(MI300))[1] - theirs[1] > 6_000, (
        "computing that theirs does not see, in µs"
    )


@pytest.mark.parametrize("name", [VIT, QWEN, MI250])
def test_holistic_trace_analysis_says_what_we_say_once_it_keeps_nanoseconds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it rounds beginnings up and ends down, and then cannot take its own sums (QWEN above)."""
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")
    found, theirs = ours(name), holistic(real(name))
    assert len(theirs.t.get_trace(0)) == found.events - 1, "it drops the recording's own event"
    (row,) = theirs.get_temporal_breakdown(visualize=False).to_dict("records")
    kinds = ("idle_time(us)", "compute_time(us)", "non_compute_time(us)", "kernel_time(us)")
    assert breakdown(found) == pytest.approx([row[kind] for kind in kinds], abs=0.1)


@pytest.mark.parametrize(("name", "own"), [("hta-cpu-only", 1), ("hta-cupti", 2)])
def test_without_kernels_there_is_no_breakdown_and_that_is_no_error(name: str, own: int) -> None:
    found, theirs = ours(name), holistic(real(name))
    assert len(theirs.t.get_trace(0)) == found.events - own
    with pytest.raises(IndexError):
        theirs.get_temporal_breakdown(visualize=False)
    assert found.breakdown is None and not found.kernels and found.operators
    assert sum(found.categories.values()) > 0


def test_delays_and_queues_equal_holistic_trace_analysis(hta: Any) -> None:
    found = ours(A100)
    stats = hta.get_cuda_kernel_launch_stats(visualize=False, include_memory_events=False)[0]
    delays = found.launch_delays
    assert delays is not None and delays.kernels == len(stats)
    assert delays.mean_us == pytest.approx(stats.launch_delay.mean())
    assert delays.median_us == stats.launch_delay.median()
    assert delays.max_us == stats.launch_delay.max()
    assert delays.short_kernels == (stats.gpu_duration < stats.cpu_duration).sum()
    queue = hta.get_queue_length_summary()["queue_length"]
    for mine in found.queues:
        row = queue.loc[(0, mine.stream)]
        assert mine.max == row["max"]
        # Launches and starts of one microsecond are in no order: theirs is not even the same each time.
        assert mine.mean == pytest.approx(row["mean"], rel=0.005)


def test_holistic_trace_analysis_rounds_kernels_to_whole_microseconds() -> None:
    """Half of the kernels on an H100 take less than 5 µs: whole microseconds lose much of their time."""
    from hta.trace_analysis import TraceAnalysis

    theirs = TraceAnalysis(
        trace_files={0: str(real(VIT))}, trace_dir="", include_last_profiler_step=True
    ).get_temporal_breakdown(visualize=False)
    found = ours(VIT)
    exact = json.loads(gzip.decompress(real(VIT).read_bytes()))["traceEvents"]
    kernels = [e["dur"] for e in exact if e.get("cat") == "kernel"]
    assert found.breakdown is not None
    assert found.breakdown.computation_us == pytest.approx(np.sum(kernels), abs=0.1)
    assert abs(theirs["compute_time(us)"][0] - np.sum(kernels)) > 20


def test_its_raw_memory_timeline_adds_up() -> None:
    found = summarise(read_trace(real("hta-memory_timeline")))
    from hta.memory_analysis import MemoryAnalysis

    _, sizes = MemoryAnalysis(str(real("hta-memory_timeline")))._process_raw_events()
    totals = np.array(sizes).sum(axis=1)
    assert found.timeline is not None and found.timeline.peak_bytes == totals.max()
    peak = np.array(sizes)[totals.argmax()].tolist()
    assert list(found.timeline.at_peak.values()) == peak


def test_two_versions_of_one_training_compare() -> None:
    found = compare(ours(A100), ours(TEST))
    assert found.measure == "device" and found.steps == (6, 6)
    assert any("devices differ" in note for note in found.notes)
    assert {row.reason for row in found.operators} >= {"new", "gone"}
    assert "CompiledFunction" in {row.name for row in found.operators if row.reason == "new"}
    shared = {row.name: row for row in found.components}
    over = shared["## forward ##/## forward:over_arch ##"]
    assert over.change_us > 0 and over.calls_a == over.calls_b == 1
