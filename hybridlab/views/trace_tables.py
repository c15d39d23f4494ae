"""The longest operators and kernels of a trace as bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, kernel_label, time_unit

_MOST = 20
_MATRIX, _PLAIN = style.SERIES_COLOURS[2], style.SERIES_COLOURS[0]


@dataclass(frozen=True)
class OperatorRow:
    """An operator with its own times, all steps together, in µs."""

    name: str
    calls: int
    own_us: float
    matrix_us: float


@dataclass(frozen=True)
class OperatorsInfo:
    """The operators with the longest own time; ``left_out`` smaller ones took ``left_out_us`` of ``total_us``."""

    rows: tuple[OperatorRow, ...]
    measure: Literal["device", "host"]
    total_us: float
    left_out: int
    left_out_us: float


def operators_info(table: pd.DataFrame, measure: Literal["device", "host"]) -> OperatorsInfo:
    """Return the longest operators of a report's table ``operators``."""
    own = f"{measure}_self_us"
    order = table[table[own] > 0].sort_values(own, ascending=False, kind="stable")
    shown, rest = order.head(_MOST), order.iloc[_MOST:]
    rows = tuple(
        OperatorRow(
            str(row["name"]),
            int(row["calls"]),
            float(row[own]),
            float(row["matrix_us"]) if measure == "device" else 0.0,
        )
        for row in shown.to_dict("records")
    )
    return OperatorsInfo(rows, measure, float(order[own].sum()), len(rest), float(rest[own].sum()))


def operators_plot(info: OperatorsInfo) -> go.Figure:
    """Draw a bar an operator; the part on tensor cores has a colour of its own."""
    divisor, unit = time_unit(max((row.own_us for row in info.rows), default=0.0))
    words = tuple(
        f"{style.plain(row.name, 120)}<br>{row.calls:,} calls, {format_seconds(row.own_us / 1e6)}, "
        f"{100 * row.own_us / info.total_us:.1f} %"
        for row in info.rows
    )
    other = tuple(max(0.0, row.own_us - row.matrix_us) / divisor for row in info.rows)
    kinds = [
        Bars("other kernels" if info.measure == "device" else "own time", other, _PLAIN, words)
    ]
    if any(row.matrix_us for row in info.rows):
        matrix = tuple(row.matrix_us / divisor for row in info.rows)
        kinds.insert(0, Bars("on tensor or matrix cores", matrix, _MATRIX, words))
    first = info.rows[0] if info.rows else None
    share = 100 * first.own_us / info.total_us if first else 0
    title = f"{style.plain(first.name, 40)} takes {share:.0f} % (measured)" if first else "No time"
    return bars_plot(
        [kernel_label(row.name, 44) for row in info.rows],
        kinds,
        title,
        f"own time on the {info.measure}, all steps, {unit}",
    )


@dataclass(frozen=True)
class KernelRow:
    """A kernel: calls, total time in µs, occupancy in % where it is known, and whether it uses tensor cores."""

    name: str
    calls: int
    total_us: float
    occupancy: float | None
    matrix_cores: bool


@dataclass(frozen=True)
class KernelsInfo:
    """The longest kernels; ``matrix_share`` is the share of all kernel time on tensor cores, 0 to 1."""

    rows: tuple[KernelRow, ...]
    total_us: float
    matrix_share: float
    left_out: int


def kernels_info(table: pd.DataFrame) -> KernelsInfo:
    """Return the longest kernels of a report's table ``kernels``."""
    order = table.sort_values("total_us", ascending=False, kind="stable")
    total = float(order["total_us"].sum())
    matrix = float(order.loc[order["matrix_cores"].astype(bool), "total_us"].sum())
    rows = tuple(
        KernelRow(
            str(row["name"]),
            int(row["calls"]),
            float(row["total_us"]),
            None if pd.isna(row["occupancy"]) else float(row["occupancy"]),
            bool(row["matrix_cores"]),
        )
        for row in order.head(_MOST).to_dict("records")
    )
    return KernelsInfo(rows, total, matrix / total if total else 0.0, len(order) - len(rows))


def kernels_plot(info: KernelsInfo) -> go.Figure:
    """Draw a bar a kernel, coloured by whether its name says that it uses tensor cores."""
    divisor, unit = time_unit(max((row.total_us for row in info.rows), default=0.0))

    def words(row: KernelRow) -> str:
        occupancy = "not told" if row.occupancy is None else f"{row.occupancy:.0f} %"
        return (
            f"{style.plain(row.name, 150)}<br>{row.calls:,} calls, "
            f"{format_seconds(row.total_us / 1e6)}, {100 * row.total_us / info.total_us:.1f} %"
            f"<br>occupancy {occupancy}"
        )

    told = tuple(words(row) for row in info.rows)
    kinds = [
        Bars(
            title,
            tuple(row.total_us / divisor if row.matrix_cores == flag else 0.0 for row in info.rows),
            colour,
            told,
        )
        for title, flag, colour in (
            ("tensor or matrix cores", True, _MATRIX),
            ("others", False, _PLAIN),
        )
        if any(row.matrix_cores == flag for row in info.rows)
    ]
    return bars_plot(
        [kernel_label(row.name) for row in info.rows],
        kinds,
        f"{100 * info.matrix_share:.0f} % of kernel time is on tensor or matrix cores, by their names (measured)",
        f"time of all calls, {unit}",
    )
