"""What sorting samples by length saves: positions, bytes and time, against batches padded to the longest sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes, format_seconds
from hybridlab.views import style

NONE = "none"
"""How batches padded to the longest sample are named on the axis."""


@dataclass(frozen=True)
class BucketSeries:
    """One figure for each way to make batches, as a share of that of batches padded to the longest."""

    name: str
    colour: str
    source: style.Source | None
    """Where the numbers come from; None where they are counted."""
    shares: tuple[float, ...]
    texts: tuple[str, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """The interval of each measured share; empty where there is none."""


@dataclass(frozen=True)
class BucketsInfo:
    """The ways to make batches, batches padded to the longest first, and what each takes."""

    ways: tuple[str, ...]
    series: tuple[BucketSeries, ...]
    title: str


def buckets_info(found: Mapping[str, Any]) -> BucketsInfo:
    """Return the picture of ``BucketReport.as_dict()``."""
    rows = found["rows"]
    ways = tuple(_name(row) for row in rows)
    counted = [row["positions"] for row in rows]
    colours = [style.series_colour(place) for place in range(4)]
    series = [
        BucketSeries(
            "positions computed",
            colours[0],
            None,
            tuple(count / counted[0] for count in counted),
            tuple(
                f"{count:,} positions, {100 * row['padding_share']:.0f} % of them padding"
                for count, row in zip(counted, rows, strict=True)
            ),
        )
    ]
    for place, (key, name) in enumerate(
        (("mean_bytes", "bytes of a step"), ("peak_bytes", "bytes of the largest step")), start=1
    ):
        for source in ("predicted", "measured"):
            sizes = [row[key][source] for row in rows]
            if sizes[0] is None:
                continue
            series.append(
                BucketSeries(
                    f"{name}, {source}",
                    colours[place],
                    "predicted" if source == "predicted" else "measured",
                    tuple(size / sizes[0] for size in sizes),
                    tuple(map(format_bytes, sizes)),
                )
            )
    ratios = [row["ratio"] for row in rows]
    if ratios[0] is not None:
        series.append(
            BucketSeries(
                "time of a step, measured",
                colours[3],
                "measured",
                tuple(ratio["value"] for ratio in ratios),
                tuple(format_seconds(row["step_ms"]["value"] / 1e3) for row in rows),
                tuple(ratio["low"] for ratio in ratios),
                tuple(ratio["high"] for ratio in ratios),
            )
        )
    return BucketsInfo(ways, tuple(series), _title(found))


def buckets_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each way to make batches: lengths, padding, bytes and times."""
    epoch = found["epoch_steps"]
    rows = []
    for row in found["rows"]:
        ratio, step = row["ratio"] or {}, (row["step_ms"] or {}).get("value")
        rows.append(
            {
                "sorted together": _name(row),
                "shortest batch": min(row["lengths"]),
                "longest batch": max(row["lengths"]),
                "positions": row["positions"],
                "padding (%)": 100 * row["padding_share"],
                "largest step, predicted (bytes)": row["peak_bytes"]["predicted"],
                "largest step, measured (bytes)": row["peak_bytes"]["measured"],
                "mean step, predicted (bytes)": row["mean_bytes"]["predicted"],
                "mean step, measured (bytes)": row["mean_bytes"]["measured"],
                "step (ms)": step,
                "epoch (s)": step * epoch / 1e3 if step and epoch else None,
                "time / longest": ratio.get("value"),
                "from": ratio.get("low"),
                "to": ratio.get("high"),
            }
        )
    return pd.DataFrame(rows)


def buckets_plot(info: BucketsInfo) -> go.Figure:
    """Draw shares over the ways: what is predicted dashed, what is measured as points with their intervals."""
    figure = go.Figure()
    for one in info.series:
        percent = [100 * share for share in one.shares]
        points = one.source == "measured"
        figure.add_trace(
            go.Scatter(
                x=info.ways,
                y=percent,
                name=one.name,
                mode="markers" if points and not one.low else "lines+markers",
                line={"color": one.colour, **style.LINE[one.source or "measured"]},
                marker={"color": one.colour, "size": 9 if points else 5},
                error_y=_interval(one),
                text=one.texts,
                hovertemplate="%{text}, %{y:.0f} %<extra>" + one.name + "</extra>",
            )
        )
    figure.update_layout(**style.layout(info.title, height=400))
    figure.update_layout(margin={"t": 64})
    figure.update_xaxes(title_text="batches sorted together", type="category")
    figure.update_yaxes(title_text="% of padding to the longest", rangemode="tozero")
    return figure


def _interval(one: BucketSeries) -> dict[str, Any] | None:
    if not one.low:
        return None
    return {
        "type": "data",
        "array": [100 * (high - at) for at, high in zip(one.shares, one.high, strict=True)],
        "arrayminus": [100 * (at - low) for at, low in zip(one.shares, one.low, strict=True)],
        "thickness": 1,
    }


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['buckets']}" if row["buckets"] else NONE


def _title(found: Mapping[str, Any]) -> str:
    """Say what the fastest way saves; where nothing was timed, what most buckets leave of the positions."""
    longest, rows = found["rows"][0], {row["buckets"]: row for row in found["rows"]}
    fastest = found["fastest"]
    if fastest is None:
        last = found["rows"][-1]
        share = 100 * last["positions"] / longest["positions"]
        return f"{last['buckets']} batches sorted together leave {share:.0f} % of the positions"
    if fastest == 0:
        return "Padding to the longest is as fast as anything (measured)"
    row = rows[fastest]
    share = 100 * row["mean_bytes"]["measured"] / longest["mean_bytes"]["measured"]
    several = "batches" if fastest > 1 else "batch"
    return (
        f"{fastest} {several} sorted together: {100 * row['ratio']['value']:.0f} % of the time and {share:.0f} % "
        "of the bytes of a step (measured)"
    )
