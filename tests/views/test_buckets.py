"""What the view of sorted batches says, as a record; and that it can be drawn."""

from __future__ import annotations

from typing import Any

from hybridlab.views.buckets import buckets_info, buckets_plot, buckets_table


def row(buckets: int, positions: int, ratio: float | None, measured: int | None) -> dict[str, Any]:
    interval = {"value": ratio, "low": 0.5, "high": 1.5} if ratio else None
    return {
        "buckets": buckets,
        "lengths": [10, positions // 40],
        "positions": positions,
        "padding_share": 1 - 400 / positions,
        "peak_bytes": {"predicted": 3000, "measured": measured},
        "mean_bytes": {"predicted": 2 * positions, "measured": measured},
        "step_ms": {"value": 40.0 * ratio} if ratio else None,
        "ratio": interval,
    }


FOUND: dict[str, Any] = {
    "rows": [row(0, 1000, 1.0, 2000), row(1, 800, 0.9, 1700), row(4, 500, 0.6, 1000)],
    "fastest": 4,
    "epoch_steps": 5.0,
}


def test_everything_stands_against_padding_to_the_longest() -> None:
    info = buckets_info(FOUND)
    assert info.ways == ("none", "1", "4")
    assert info.title == (
        "4 batches sorted together: 60 % of the time and 50 % of the bytes of a step (measured)"
    )
    shares = {one.name: one.shares for one in info.series}
    assert shares["positions computed"] == (1.0, 0.8, 0.5)
    assert shares["bytes of a step, predicted"] == (1.0, 0.8, 0.5)
    assert shares["bytes of the largest step, predicted"] == (1.0, 1.0, 1.0)
    assert shares["time of a step, measured"] == (1.0, 0.9, 0.6)
    plot = buckets_plot(info)
    assert list(plot.data[0].y) == [100, 80, 50]
    assert list(plot.data[-1].error_y.arrayminus) == [50, 40, 100 * (0.6 - 0.5)]


def test_what_was_not_measured_is_left_out() -> None:
    rows = [row(0, 1000, None, None), row(4, 500, None, None)]
    info = buckets_info({"rows": rows, "fastest": None})
    assert info.title == "4 batches sorted together leave 50 % of the positions"
    assert not any(one.source == "measured" for one in info.series)
    buckets_plot(info)


def test_padding_may_be_as_good_as_anything() -> None:
    info = buckets_info({**FOUND, "fastest": 0})
    assert info.title == "Padding to the longest is as fast as anything (measured)"


def test_the_table_has_units_and_the_time_of_an_epoch() -> None:
    table = buckets_table(FOUND)
    assert list(table["sorted together"]) == ["none", "1", "4"]
    assert list(table["epoch (s)"]) == [0.2, 0.18, 0.12]
    assert list(table["mean step, measured (bytes)"]) == [2000, 1700, 1000]
    assert round(float(table["padding (%)"].iloc[2])) == 20
