"""Compiled regions: each one's time over that of itself as it is, with what it starts and moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style

_ROW_PIXELS = 30


@dataclass(frozen=True)
class RegionRow:
    """One region; ``time`` is compiled over plain with ``low`` and ``high`` around it, None where it was not timed."""

    name: str
    places: int
    verdict: str
    in_rows: float
    plain_kernels: int
    compiled_kernels: int | None
    plain_bytes: int
    compiled_bytes: int | None
    graphs: int
    compile_s: float | None
    difference: float | None
    time: float | None
    low: float | None
    high: float | None
    kept: bool

    @property
    def words(self) -> str:
        """What it starts and moves as it is and compiled."""
        if self.compiled_kernels is None or self.compiled_bytes is None:
            return self.verdict
        return (
            f"{self.plain_kernels} kernels → {self.compiled_kernels}, {format_bytes(self.plain_bytes)} → at least "
            f"{format_bytes(self.compiled_bytes)}; {self.verdict}"
        )


@dataclass(frozen=True)
class RegionsInfo:
    """The regions that were looked at, the most promising first."""

    regions: tuple[RegionRow, ...]
    title: str

    @property
    def timed(self) -> list[RegionRow]:
        """The regions that were compiled and timed."""
        return [one for one in self.regions if one.time is not None]

    def table(self) -> pd.DataFrame:
        """Return every region as a row."""
        names = list(RegionRow.__dataclass_fields__)
        frame = pd.DataFrame([[getattr(one, name) for name in names] for one in self.regions])
        frame = frame.set_axis(names, axis=1).drop(columns="kept")
        numbers = ("time", "low", "high", "difference", "compile_s")
        frame = frame.astype(dict.fromkeys(numbers, float))
        return frame.astype({"compiled_kernels": "Int64", "compiled_bytes": "Int64"})


def regions_info(found: Mapping[str, Any]) -> RegionsInfo:
    """Return the picture of a ``RegionsReport`` as plain JSON."""
    rows = tuple(_row(one) for one in found["judged"])
    kept = sum(one.kept for one in rows)
    timed = sum(one.time is not None for one in rows)
    title = f"{kept} of {timed} regions are kept compiled (measured, each alone)"
    return RegionsInfo(rows, title if timed else "No region could be compiled and timed")


def _row(one: Mapping[str, Any]) -> RegionRow:
    plain, compiled, ratio = one["plain"], one["compiled"] or {}, one["ratio"] or {}
    moved = plain["moved_bytes"]
    return RegionRow(
        name=one["name"],
        places=len(one["paths"]),
        in_rows=one["chained_bytes"] / moved if moved else 0.0,
        plain_kernels=plain["kernels"],
        compiled_kernels=compiled.get("kernels"),
        plain_bytes=moved,
        compiled_bytes=compiled.get("moved_bytes"),
        graphs=one["graphs"],
        compile_s=one["compile_s"],
        difference=one["error"],
        time=ratio.get("value"),
        low=ratio.get("low"),
        high=ratio.get("high"),
        kept=one["kept"],
        verdict=f"kept: {one['why']}" if one["kept"] else one["why"],
    )


def regions_plot(info: RegionsInfo) -> go.Figure:
    """Draw each timed region's ratio with its interval; left of the line is faster, filled is kept."""
    figure = go.Figure()
    rows = info.timed
    places = {id(one): place for place, one in enumerate(rows)}
    for kept, name, symbol in (
        (True, "kept, measured", "circle"),
        (False, "not kept, measured", "circle-open"),
    ):
        some = [one for one in rows if one.kept is kept]
        if not some:
            continue
        times = [one.time or 0.0 for one in some]
        figure.add_trace(
            go.Scatter(
                x=times,
                y=[places[id(one)] for one in some],
                name=name,
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": 11,
                    "color": style.SOURCE_COLOURS["measured"] if kept else style.NEUTRAL,
                    "line": {"width": 2},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [(one.high or 0.0) - t for one, t in zip(some, times, strict=True)],
                    "arrayminus": [
                        t - (one.low or 0.0) for one, t in zip(some, times, strict=True)
                    ],
                },
                customdata=[style.plain(one.words) for one in some],
                hovertemplate="%{x:.3f} of its time<br>%{customdata}<extra>%{fullData.name}</extra>",
            )
        )
    figure.add_vline(x=1.0, line={"color": style.NEUTRAL, "width": 1.5, "dash": "dot"})
    figure.update_layout(**style.layout(info.title, height=170 + _ROW_PIXELS * len(rows)))
    figure.update_layout(margin={"t": 86}, legend=style.LEGEND_ABOVE)
    figure.update_xaxes(title_text="time compiled / time as it is")
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[style.plain(f"{one.name} ×{one.places}") for one in rows],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    return figure
