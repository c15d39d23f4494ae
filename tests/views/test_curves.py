"""Curves of runs: what is compared, what leads, what the axes say, and what a chart leaves out."""

from __future__ import annotations

import math

import pytest

from hybridlab.views import style
from hybridlab.views.curves import MOST, Border, Curve, borders_of, curves_info, curves_plot


def curve(run: str, *values: float, name: str = "") -> Curve:
    steps = tuple(range(10, 10 * len(values) + 10, 10))
    return Curve(run, name or f"run {run}", steps, tuple(step / 4 for step in steps), values)


@pytest.mark.parametrize(
    ("metric", "leads"),
    [("val_accuracy", "b"), ("loss", "a"), ("test_bits_per_byte", "a")],
)
def test_the_leader_is_the_best_in_the_direction_of_the_metric(metric: str, leads: str) -> None:
    info = curves_info([curve("a", 0.9, 0.2, math.nan), curve("b", 0.5, 0.95, 0.4)], metric)
    assert info.leader is not None
    assert info.leader.run == leads
    best = {"a": 0.2, "b": 0.95}[leads]
    assert curves_plot(info).layout.title.text == (
        f"run {leads} reaches the best {metric.replace('_', ' ')}: {best:.4g}"
    )


@pytest.mark.parametrize("count", range(2, MOST + 1))
def test_two_to_eight_runs_share_a_chart_each_in_a_colour_of_its_own(count: int) -> None:
    runs = [curve(f"r{i}", 1.0 / (i + 1), 0.5) for i in range(count)]
    figure = curves_plot(curves_info(runs, "loss"))
    assert [t.name for t in figure.data] == [f"run r{i}" for i in range(count)]
    assert len({t.line.color for t in figure.data}) == count
    assert figure.layout.showlegend is True
    assert list(figure.data[1].y) == [0.5, 0.5]


def test_more_than_eight_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="9 runs on one chart; at most 8"):
        curves_info([curve(f"r{i}", 1.0) for i in range(9)], "loss")


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("loss", "loss (nats)"),
        ("samples_per_s", "samples per s (samples/s)"),
        ("rss_bytes", "rss bytes (bytes)"),
        ("val_bits_per_byte", "val bits per byte (bits)"),
        ("val_accuracy", "val accuracy"),
    ],
)
def test_the_axes_carry_units(metric: str, title: str) -> None:
    steps = curves_plot(curves_info([curve("a", 1.0, 2.0)], metric))
    seconds = curves_plot(curves_info([curve("a", 1.0, 2.0)], metric, axis="seconds"))
    assert steps.layout.yaxis.title.text == title
    assert (steps.layout.xaxis.title.text, list(steps.data[0].x)) == ("step", [10, 20])
    assert (seconds.layout.xaxis.title.text, list(seconds.data[0].x)) == (
        "running time (s)",
        [2.5, 5.0],
    )


def test_measured_lines_are_solid_on_a_clear_background_and_one_run_needs_no_legend() -> None:
    figure = curves_plot(curves_info([curve("a", 3.0, 1.5)], "loss"), colours={"a": 4})
    assert figure.data[0].line.dash == style.LINE["measured"]["dash"] == "solid"
    assert style.LINE["predicted"]["dash"] == "dash"
    assert figure.data[0].line.color == style.SERIES_COLOURS[4]
    assert figure.layout.showlegend is False
    assert figure.layout.title.text == "Loss: best 1.5"
    assert figure.layout.template.layout.paper_bgcolor == style.CLEAR
    assert figure.layout.template.layout.plot_bgcolor == style.CLEAR


def test_a_run_without_the_metric_is_kept_and_does_not_lead() -> None:
    info = curves_info([Curve("a", "empty", (), (), ()), curve("b", 0.1)], "val_accuracy")
    assert info.leader is not None
    assert info.leader.name == "run b"
    figure = curves_plot(info)
    assert [len(t.x) for t in figure.data] == [0, 1]


@pytest.mark.parametrize("values", [(), (math.nan, math.inf, -math.inf)])
def test_where_no_run_has_a_number_the_title_says_so(values) -> None:
    info = curves_info([curve("a", *values)], "val_accuracy")
    assert info.leader is None
    assert curves_plot(info).layout.title.text == "No run has points of val accuracy yet"


def test_long_curves_are_thinned_and_keep_their_last_point() -> None:
    long = curve("a", *(float(i) for i in range(50_001)))
    (kept,) = curves_info([long], "loss").curves
    assert 1_500 <= len(kept.steps) <= 2_010
    assert (kept.steps[0], kept.values[0]) == (10, 0.0)
    assert (kept.steps[-1], kept.values[-1]) == (500_010, 50_000.0)
    assert len(kept.steps) == len(kept.seconds) == len(kept.values)


def test_the_table_has_every_point_of_every_run() -> None:
    table = curves_info([curve("a", 0.5, 0.25), curve("b", 1.0)], "loss").table()
    assert list(table.columns) == ["run", "name", "metric", "step", "seconds", "value"]
    assert table.to_numpy().tolist() == [
        ["a", "run a", "loss", 10, 2.5, 0.5],
        ["a", "run a", "loss", 20, 5.0, 0.25],
        ["b", "run b", "loss", 10, 2.5, 1.0],
    ]


def test_names_of_runs_stay_text() -> None:
    name = "<b>bold</b> " + "x" * 60
    figure = curves_plot(curves_info([curve("a", 1.0, name=name), curve("b", 2.0)], "loss"))
    assert figure.data[0].name.startswith("&lt;b&gt;bold&lt;/b&gt; xxx")
    assert figure.data[0].name.endswith("…")
    assert "<b>" not in figure.layout.title.text


@pytest.mark.parametrize(
    ("metric", "axis"),
    [
        ("core_percent/3", "core percent/3 (%)"),
        ("power_w/RAPL package-0", "power w/RAPL package-0 (W)"),
        ("device_sm_clock_mhz", "device sm clock mhz (MHz)"),
        ("device_temperature_celsius", "device temperature celsius (°C)"),
        ("device_reserved_bytes", "device reserved bytes (bytes)"),
    ],
)
def test_readings_of_meters_have_their_units(metric: str, axis: str) -> None:
    curve = Curve("a", "a", (1,), (1.0,), (2.0,))
    assert curves_plot(curves_info([curve], metric)).layout.yaxis.title.text == axis


def test_borders_of_stages_are_dashed_lines_named_where_one_run_is_shown() -> None:
    points = [(20, 5.0, 1.0), (30, 7.5, 2.0), (40, 9.0, 7.0)]
    borders = borders_of("a", points, ["easy", "middle", "hard"])
    assert borders == [Border("a", 20, 5.0, "middle"), Border("a", 30, 7.5, "hard")]
    one = curve("a", 1.0, 0.5, 0.4, 0.3)
    figure = curves_plot(curves_info([one], "loss", borders=borders))
    assert [(line.x0, line.line.dash) for line in figure.layout.shapes] == [
        (20, "dash"),
        (30, "dash"),
    ]
    assert [note.text for note in figure.layout.annotations] == ["middle", "hard"]
    timed = curves_plot(curves_info([one], "loss", axis="seconds", borders=borders))
    assert [line.x0 for line in timed.layout.shapes] == [5.0, 7.5]
    both = curves_plot(curves_info([one, curve("b", 1.0)], "loss", borders=borders))
    assert len(both.layout.shapes) == 2 and not both.layout.annotations
    assert {line.line.color for line in both.layout.shapes} == {both.data[0].line.color}
