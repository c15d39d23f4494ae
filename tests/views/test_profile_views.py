"""The pictures of a profile: their records say what the tables say, and their figures name what to see."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest
from torch import nn

from hybridlab.hardware.caches import Cache
from hybridlab.profiling.report import report
from hybridlab.views import standalone
from hybridlab.views.profile_access import (
    matrix_info,
    matrix_plot,
    raster_info,
    raster_plot,
    reuse_info,
    reuse_plot,
)
from hybridlab.views.profile_memory import kept_info, live_info, live_plot, peak_info, peak_plot
from hybridlab.views.profile_operators import operators_table
from hybridlab.views.profile_roofline import roofline_info, roofline_plot
from hybridlab.views.profile_timeline import timeline_info, timeline_plot
from tests.profiling.profiles import CEILINGS, chain, profile_of, training

CACHES = (Cache("L1", 4096), Cache("L2", 1 << 20))


@cache
def tables() -> dict[str, pd.DataFrame]:
    """Return the tables of a training step with components inside each other, as the page reads them."""
    inner = nn.Sequential(nn.Linear(32, 64), nn.GELU())
    profile = profile_of(training(inner, nn.Linear(64, 8)), {"0.0": 5.0}, {"0.0": 2.0})
    made = report(profile, CACHES, CEILINGS)
    return {name: table.to_pandas() for name, table in made.tables.items()}


def test_roofline_has_a_pair_of_dots_for_each_component_with_flops() -> None:
    info = roofline_info(tables()["roofline"], tables()["ceilings"])
    dots = {(dot.component, dot.source): dot for dot in info.dots}
    assert {("0.0", "predicted"), ("0.0", "measured"), ("1", "measured")} <= set(dots)
    fast, slow = dots["0.0", "predicted"], dots["0.0", "measured"]
    assert slow.ms == 5.0 and fast.ms == 2.0 and slow.intensity == fast.intensity
    assert slow.flops_per_s == pytest.approx(slow.flops / 5e-3)
    assert "0.1" in info.without_flops and info.dearest == slow
    assert dict(info.flops_per_s) == CEILINGS.flops_per_s
    assert [slope.level for slope in info.slopes] == ["L1", "memory"]
    figure = roofline_plot(info)
    assert figure.layout.title.text.startswith("0.0 takes the longest")
    hollow, filled = (
        next(t for t in figure.data if t.name == s) for s in ("predicted", "measured")
    )
    assert hollow.marker.symbol == "circle-open" and filled.marker.symbol == "circle"
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert set(filled.text) - {""} and not set(hollow.text) - {""}


def test_a_roofline_without_ceilings_has_no_lines_and_no_share() -> None:
    stream = training(nn.Linear(32, 64))
    made = report(profile_of(stream), CACHES, CEILINGS).tables
    bare = made["roofline"].to_pandas().assign(share=None, ceiling_ms=None, bound=None)
    info = roofline_info(bare, made["ceilings"].to_pandas().iloc[:0])
    assert not info.slopes and not info.flops_per_s and info.dots[0].share is None
    assert "FLOPs/s" in roofline_plot(info).layout.title.text


def test_timeline_nests_phases_components_and_operators() -> None:
    flame = tables()["flame"]
    info = timeline_info(flame)
    assert info.rows == ("phase", "component, level 1", "component, level 2", "operator")
    phases = [item for item in info.rectangles if item.row == 0]
    assert {item.name for item in phases} == {"forward", "backward", "optimiser"}
    assert sum(item.operators for item in phases) == len(flame)
    assert sum(item.row == 3 for item in info.rectangles) + info.hidden == len(flame)
    for item in info.rectangles:
        assert item.busy_us <= item.dur_us + 1e-6
        if item.row == 2:
            assert item.component.count(".") == 1
    assert timeline_plot(info).layout.title.text.startswith("What ran when (measured): forward")


def test_a_window_sends_only_what_is_in_it_and_never_too_much() -> None:
    flame = tables()["flame"]
    begin, end = flame["start_us"].iloc[2], flame["start_us"].iloc[5]
    part = timeline_info(flame, (begin + 1, end + 1))
    assert sum(item.row == len(part.rows) - 1 for item in part.rectangles) == 4
    assert len(timeline_info(flame, most=7).rectangles) == 7
    assert timeline_info(flame, most=7).hidden > 0
    assert timeline_info(flame.iloc[:0]).rectangles == ()


def test_live_bytes_add_up_and_mark_the_peak() -> None:
    live, memory, peak = tables()["live"], tables()["memory"], tables()["at_peak"]
    for by in ("category", "component"):
        info = live_info(live, memory, by)  # type: ignore[arg-type]
        assert info.unit == "ms" and info.other[0] and info.allocator[0]
        at = info.at.index(info.peak_at)
        assert sum(part.bytes[at] for part in info.parts) == info.peak_bytes == max(info.other[1])
        found = peak[peak["source"] == "measured"].groupby(by)["bytes"].sum()
        assert dict(info.at_peak) == {name: size for name, size in found.items() if size}
    figure = live_plot(info)
    assert "% is" in figure.layout.title.text and "MiB" in figure.layout.yaxis.title.text
    assert any(
        "predicted" in (trace.name or "") and trace.line.dash == "dash" for trace in figure.data
    )


def test_bars_of_the_peak_and_of_what_is_kept() -> None:
    peak = tables()["at_peak"]
    info = peak_info(peak)
    assert sum(map(sum, info.bytes)) == peak[peak["source"] == "measured"]["bytes"].sum()
    assert len(peak_plot(info).data) == len(info.categories)
    kept = kept_info(tables()["kept"])
    assert kept.bytes[0] == tuple(sorted(kept.bytes[0], reverse=True))
    assert "for backward" in peak_plot(kept).layout.title.text


def test_raster_keeps_every_byte_and_tells_strided_ones() -> None:
    raster = tables()["raster"]
    total = raster[raster["unit"] == "operator"].filter(like="_bytes").to_numpy().sum()
    sums = {}
    for access in ("all", "read", "write", "strided"):
        info = raster_info(raster, access)  # type: ignore[arg-type]
        sums[access] = sum(size or 0 for line in info.bytes for size in line)
    assert sums["all"] == total == sums["read"] + sums["write"]
    assert sums["strided"] == pytest.approx(info.strided_share * total) and sums["strided"] > 0
    assert raster_plot(info).layout.xaxis.title.text.startswith("operators")
    assert "(ms)" in raster_plot(raster_info(raster, "all", "us")).layout.xaxis.title.text


def test_a_category_of_memory_has_one_colour_in_every_figure() -> None:
    named = tables()
    over_time = live_plot(live_info(named["live"], named["memory"]))
    at_peak, waiting = peak_plot(peak_info(named["at_peak"])), peak_plot(kept_info(named["kept"]))
    lines = {trace.name: trace.line.color for trace in over_time.data if trace.stackgroup}
    bars = {trace.name: trace.marker.color for trace in (*at_peak.data, *waiting.data)}
    assert len(bars) > 3 and set(bars) <= set(lines)
    assert {name: lines[name] for name in bars} == bars
    assert len(set(lines.values())) == len(lines)
    assert at_peak.layout.legend.y == 1.0  # below, it would lie on the axis' name


def test_the_raster_of_storages_shows_those_with_the_most_bytes() -> None:
    table = tables()["storage_raster"]
    whole, few = raster_info(table), raster_info(table, most=3)
    assert whole.by == "storage" and whole.left_out == 0 and len(few.rows) == 3
    assert few.left_out == len(whole.rows) - 3
    sums = {
        name: sum(size or 0 for size in line)
        for name, line in zip(whole.rows, whole.bytes, strict=True)
    }
    assert sorted(sums[name] for name in few.rows) == sorted(sums.values())[-3:]
    figure = raster_plot(few)
    assert list(figure.layout.yaxis.tickvals) == [0, 1, 2]
    assert "storages with fewer are left out" in figure.layout.title.text
    assert "weights" in "".join(whole.rows) and "gradients" in "".join(whole.rows)


def test_reuse_is_by_level_with_a_line_at_each_cache() -> None:
    reuse, caches = tables()["reuse"], tables()["caches"]
    info = reuse_info(reuse, caches)
    assert sum(map(sum, info.bytes)) + info.first_bytes == reuse["bytes"].sum()
    for level, sizes in zip(info.levels, info.bytes, strict=True):
        limit = dict(info.caches).get(level)
        if limit:
            assert all(
                not size or edge / 2 < limit for size, edge in zip(sizes, info.edges, strict=True)
            )
    figure = reuse_plot(info)
    assert len(figure.layout.shapes) == len(caches)
    assert sum(map(sum, reuse_info(reuse, caches, "1").bytes)) < sum(map(sum, info.bytes))


def test_matrix_marks_what_is_copied() -> None:
    stream = chain(lambda x: x.exp(), lambda x: x.t().contiguous(), lambda x: x.sin())
    table = report(profile_of(stream), CACHES, CEILINGS).tables["hand_overs"].to_pandas()
    info = matrix_info(table, ["a", "b", "c"])
    cell = info.writers.index("a"), info.readers.index("b")
    assert info.marks[cell[0]][cell[1]] == "100 %"
    assert "laid out in another order" in info.words[cell[0]][cell[1]]
    plain = info.writers.index("b"), info.readers.index("c")
    assert info.marks[plain[0]][plain[1]] == "" and info.bytes[plain[0]][plain[1]]
    assert list(info.readers) == ["a", "b", "c"]
    assert matrix_plot(info).layout.xaxis.title.text == "read by"


def test_operators_add_up_by_any_column_and_are_found_by_words() -> None:
    table = tables()["operators"]
    for by in ("op", "component op", "phase op"):
        shown = operators_table(table, by)  # type: ignore[arg-type]
        assert shown["calls"].sum() == table["operators"].sum()
        assert shown["share (%)"].sum() == pytest.approx(100)
        assert shown["ms, measured"].is_monotonic_decreasing
    assert set(operators_table(table, "op", "GELU")["operator"]) == {"gelu", "gelu_backward"}
    assert operators_table(table, "op", "no such").empty


def test_hostile_names_are_harmless_in_figures() -> None:
    bad = "<img src=x onerror=alert(1)>"
    named = {}
    for name, table in tables().items():
        columns = [key for key in ("component", "name", "writer", "reader") if key in table]
        plain = {key: table[key].astype(object) for key in columns}
        named[name] = table.assign(
            **{key: values.where(values != "0.0", bad) for key, values in plain.items()}
        )
    figures = [
        roofline_plot(roofline_info(named["roofline"], named["ceilings"])),
        timeline_plot(timeline_info(named["flame"])),
        live_plot(live_info(named["live"], named["memory"], "component")),
        peak_plot(peak_info(named["at_peak"])),
        raster_plot(raster_info(named["raster"])),
        raster_plot(raster_info(named["storage_raster"])),
        matrix_plot(matrix_info(named["hand_overs"])),
    ]
    for figure in figures:
        shown = figure.to_plotly_json()
        for trace in shown["data"]:
            trace.pop("customdata", None)  # never drawn as text here, but read back on a click
        assert "<img" not in str(shown)


def test_a_figure_as_a_file_needs_no_network() -> None:
    figure = timeline_plot(timeline_info(tables()["flame"]))
    text = standalone.page(figure, "a name")
    assert "Plotly.newPlot" in text and len(text) > 1_000_000
    assert 'src="http' not in text and '"format": "svg"' in text
    assert figure.layout.paper_bgcolor != standalone.PAPER
