"""What a design keeps while it is read: bytes of its caches over the positions read, predicted and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style

FORMS = {
    "grows": "grows with every position",
    "fills": "grows until its window is full",
    "constant": "stays as large as it is",
    "nothing": "nothing kept",
}
"""How caches go on, in words."""


@dataclass(frozen=True)
class CacheSeries:
    """Caches of one form together, or all of them; bytes for each number of positions, None where not measured."""

    name: str
    colour: str
    predicted_bytes: tuple[int, ...]
    measured_bytes: tuple[int | None, ...]


@dataclass(frozen=True)
class CachesInfo:
    """The sum over all components, then each form that is there, where there is more than one."""

    positions: tuple[int, ...]
    series: tuple[CacheSeries, ...]
    title: str


def caches_info(found: Mapping[str, Any]) -> CachesInfo:
    """Return the picture of ``CacheReport.as_dict()``."""
    positions = tuple(found["positions"])
    kept = [row for row in found["components"] if row["form"] != "nothing"]
    whole = CacheSeries(
        "all caches",
        style.series_colour(0),
        tuple(found["predicted_bytes"]),
        _measured([found], len(positions)),
    )
    forms = [form for form in FORMS if any(row["form"] == form for row in kept)]
    parts = []
    for place, form in enumerate(forms if len(forms) > 1 else (), start=1):
        rows = [row for row in kept if row["form"] == form]
        predicted = tuple(
            sum(row["predicted_bytes"][at] for row in rows) for at in range(len(positions))
        )
        parts.append(
            CacheSeries(
                FORMS[form], style.series_colour(place), predicted, _measured(rows, len(positions))
            )
        )
    return CachesInfo(positions, (whole, *parts), _title(found, kept))


def caches_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each component that keeps something: its form, and bytes at each number of positions."""
    rows = []
    for row in found["components"]:
        if row["form"] == "nothing" and not row["no_step"]:
            continue
        told: dict[str, Any] = {
            "component": row["path"],
            "use": row["use"],
            "cache": row["no_step"] or _form(row),
            "a position adds (bytes)": row["grows_bytes"],
        }
        measured = row["measured_bytes"] or [None] * len(found["positions"])
        for at, predicted, seen in zip(
            found["positions"], row["predicted_bytes"], measured, strict=True
        ):
            told[f"{at:,} predicted (bytes)"] = predicted
            told[f"{at:,} measured (bytes)"] = seen
        rows.append(told)
    return pd.DataFrame(rows)


def caches_plot(info: CachesInfo) -> go.Figure:
    """Draw bytes over positions, both on scales of powers: predicted as dashed lines, measured as points."""
    figure = go.Figure()
    for one in info.series:
        figure.add_trace(
            go.Scatter(
                x=info.positions,
                y=one.predicted_bytes,
                name=f"{one.name}, predicted",
                mode="lines",
                line={"color": one.colour, **style.LINE["predicted"]},
                text=[format_bytes(count) for count in one.predicted_bytes],
                hovertemplate="%{x:,} positions: %{text} predicted<extra></extra>",
            )
        )
        measured = [
            (at, count)
            for at, count in zip(info.positions, one.measured_bytes, strict=True)
            if count is not None
        ]
        if measured:
            figure.add_trace(
                go.Scatter(
                    x=[at for at, _ in measured],
                    y=[count for _, count in measured],
                    name=f"{one.name}, measured",
                    mode="markers",
                    marker={"color": one.colour, "size": 9},
                    text=[format_bytes(count) for _, count in measured],
                    hovertemplate="%{x:,} positions: %{text} measured<extra></extra>",
                )
            )
    figure.update_layout(**style.layout(info.title, height=400))
    figure.update_layout(margin={"t": 64})
    figure.update_xaxes(title_text="positions read", type="log", tickvals=list(info.positions))
    figure.update_yaxes(title_text="caches (bytes)", type="log", **_ticks(info))
    return figure


def _ticks(info: CachesInfo) -> dict[str, Any]:
    """Return marks at powers of two, at most eight of them, written as bytes are."""
    every = [count for one in info.series for count in one.predicted_bytes if count]
    low, high = (int(math.log2(bound(every, default=1))) for bound in (min, max))
    stride = max(1, -(-(high + 1 - low) // 7))
    values = [2**power for power in range(low, high + 1 + stride, stride)]
    return {"tickvals": values, "ticktext": [format_bytes(value) for value in values]}


def _measured(rows: list[Mapping[str, Any]], count: int) -> tuple[int | None, ...]:
    """Return sums of what was measured; None where one of the rows was not."""
    found: list[int | None] = []
    for at in range(count):
        each: list[int | None] = [
            row["measured_bytes"][at] if row["measured_bytes"] else None for row in rows
        ]
        known = [count for count in each if count is not None]
        found.append(sum(known) if known and len(known) == len(each) else None)
    return tuple(found)


def _form(row: Mapping[str, Any]) -> str:
    full = f" ({row['full_at']:,} positions)" if row["full_at"] else ""
    return FORMS[row["form"]] + full


def _title(found: Mapping[str, Any], kept: list[Mapping[str, Any]]) -> str:
    """Say what the caches come to at the last position, and how that goes on."""
    last, size = found["positions"][-1], format_bytes(found["predicted_bytes"][-1])
    growing = sum(row["grows_bytes"] for row in kept)
    how = f"; each one more adds {format_bytes(growing)}" if growing else ", and no more after that"
    return f"{size} of caches after {last:,} positions{how} (predicted)"
