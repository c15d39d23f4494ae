"""A profile's tables: they agree with the op stream and with each other, and are small enough to be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import nn

from hybridlab.errors import RunError
from hybridlab.hardware.caches import Cache
from hybridlab.profiling.findings import findings
from hybridlab.profiling.memory_tables import thinned
from hybridlab.profiling.perfetto import perfetto
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.record import Profile
from hybridlab.profiling.report import Report, report
from hybridlab.profiling.summary import summarise
from hybridlab.profiling.work_tables import ceiling_table, flame_table, roofline_table
from tests.profiling.profiles import CEILINGS, chain, profile_of, timed, training

CACHES = (Cache("L1", 4096), Cache("L2", 1 << 20))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return profile_of(training(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8)))


@pytest.fixture(scope="module")
def made(profile: Profile) -> Report:
    return report(profile, CACHES, CEILINGS)


def test_tables_add_up_to_the_stream(profile: Profile, made: Report) -> None:
    tables, stream = made.tables, profile.stream
    moved = int(stream.numbers("bytes_read").sum() + stream.numbers("bytes_written").sum())
    assert sum(tables["operators"]["operators"].to_pylist()) == len(stream)
    assert sum(tables["operators"]["flops"].to_pylist()) == stream.flops
    measured = [row for row in tables["roofline"].to_pylist() if row["source"] == "measured"]
    assert sum(row["bytes"] for row in measured) == moved
    assert tables["flame"].num_rows == len(stream)
    accessed = sum(row["bytes"] for row in tables["reuse"].to_pylist())
    assert accessed == sum(tables["levels"]["bytes"].to_pylist()) > 0
    for unit in ("us", "operator"):
        for name in ("raster", "storage_raster"):
            rows = [row for row in tables[name].to_pylist() if row["unit"] == unit]
            sizes = [size for row in rows for key, size in row.items() if key.endswith("_bytes")]
            assert sum(sizes) == accessed
    for source in ("measured", "predicted"):
        rows = [row for row in tables["at_peak"].to_pylist() if row["source"] == source]
        assert sum(row["bytes"] for row in rows) == stream.peak_bytes
    assert max(tables["memory"]["total_bytes"].to_pylist()) == profile.peak_bytes_measured


def test_live_bytes_have_measured_times_and_the_peak(profile: Profile, made: Report) -> None:
    for source in ("measured", "predicted"):
        for by in ("category", "component"):
            rows = [
                row
                for row in made.tables["live"].to_pylist()
                if row["source"] == source and row["by"] == by
            ]
            totals: dict[int, int] = {}
            for row in rows:
                totals[row["tick"]] = totals.get(row["tick"], 0) + row["bytes"]
            assert max(totals.values()) == profile.stream.peak_bytes
            times = [row["us"] for row in rows if row["name"] == rows[0]["name"]]
            assert times == sorted(times) and times[-1] > 0


def test_components_are_held_against_the_ceilings(made: Report) -> None:
    rows = {
        row["component"]: row
        for row in made.tables["roofline"].to_pylist()
        if row["source"] == "measured"
    }
    product, gelu = rows["0"], rows["1"]
    assert product["flops_per_s"] == pytest.approx(1e3 * product["flops"])  # it takes 1 ms
    assert product["bound"] == "compute" and gelu["bound"] == "memory"
    assert gelu["ceiling_ms"] == pytest.approx(1e3 * gelu["bytes"] / 1e8)
    assert product["ceiling_ms"] >= 1e3 * product["flops"] / 1e8
    assert product["share"] == pytest.approx(product["ceiling_ms"] / product["ms"])


def test_a_machine_without_known_ceilings(profile: Profile, made: Report) -> None:
    bare = dict(made.tables) | {
        "ceilings": ceiling_table(None),
        "roofline": roofline_table(profile, None),
    }
    assert bare["ceilings"].num_rows == 0 and set(bare["roofline"]["share"].to_pylist()) == {None}
    assert bare["roofline"].num_rows == made.tables["roofline"].num_rows
    assert not [item for item in findings(profile, bare) if "ceilings" in item.sentence]


def test_a_step_without_operators_has_empty_tables() -> None:
    tables = report(profile_of(chain(lambda x: x)), CACHES, CEILINGS).tables
    for name in ("operators", "flame", "raster", "reuse", "hand_overs", "fusable", "kept"):
        assert tables[name].num_rows == 0, name


def test_curves_keep_their_largest_moments() -> None:
    values = np.zeros(10_000, dtype=np.int64)
    values[[1, 5_001, 9_998]] = 7, 9, 8
    rows = thinned(values, 50)
    assert len(rows) <= 50 and {0, 1, 5_001, 9_998, 9_999} <= set(rows.tolist())
    assert thinned(values[:40], 50).tolist() == list(range(40))


def test_a_report_is_written_whole(made: Report, tmp_path: Path) -> None:
    made.save(tmp_path)
    made.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{name}.parquet" for name in (*made.tables, "findings")
    }
    told = pq.read_table(tmp_path / "findings.parquet").to_pylist()
    assert [row["sentence"] for row in told] == [item.sentence for item in made.findings]
    assert json.loads(told[0]["evidence"]) == dict(made.findings[0].evidence)


def test_a_stream_opens_as_a_trace(profile: Profile, tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    file.write_bytes(perfetto(profile.stream, "a test"))
    trace = read_trace(file)
    told = summarise(trace)
    assert {row.name: row.calls for row in told.operators}["aten::addmm"] == 2
    assert sum(row.calls for row in told.operators) == len(profile.stream)
    busy = sum(row.host_self_us for row in told.operators)
    assert busy == pytest.approx(10.0 * len(profile.stream))
    events = json.loads(file.read_bytes())["traceEvents"]
    tracks = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert tracks == {"forward", "backward", "optimiser"}
    operators = [e for e in events if e.get("cat") == "cpu_op"]
    assert all(e["args"]["component"] for e in operators)
    assert {row.path for row in told.components} >= {"0", "1", "2"}


def test_operators_that_overlap_stand_one_after_the_other() -> None:
    stream = timed(chain(lambda x: x.exp().sin()), us=10.0, gap_us=-4.0)
    events = [e for e in json.loads(perfetto(stream))["traceEvents"] if e.get("cat") == "cpu_op"]
    assert [(e["ts"], e["dur"]) for e in events] == [(0.0, 10.0), (10.0, 6.0)]
    flame = flame_table(stream)
    assert (flame["start_us"].to_pylist(), flame["dur_us"].to_pylist()) == (
        [0.0, 10.0],
        [10.0, 6.0],
    )


def test_a_stream_without_times_makes_no_trace(profile: Profile) -> None:
    assert profile.predicted is not None
    with pytest.raises(RunError, match="no measured times"):
        perfetto(profile.predicted)
