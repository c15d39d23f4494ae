"""What changed between two traces: the largest changes as bars to the left and right."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, kernel_label, time_unit

_MOST = 16


@dataclass(frozen=True)
class Change:
    """One component, operator or kernel: its change per step in µs, by number of calls and by time a call."""

    name: str
    from_calls_us: float
    from_time_us: float
    words: str

    @property
    def change_us(self) -> float:
        """What it costs more in the second trace."""
        return self.from_calls_us + self.from_time_us


@dataclass(frozen=True)
class ChangesInfo:
    """The largest changes, the largest first; ``left_out`` smaller ones sum up to ``left_out_us``."""

    rows: tuple[Change, ...]
    what: str
    left_out: int
    left_out_us: float


def changes_info(table: pd.DataFrame, what: str) -> ChangesInfo:
    """Return the largest changes of a comparison's table; ``what`` its rows are, such as kernels."""
    rows = tuple(
        Change(
            str(row["name"]),
            float(row["from_calls_us"]),
            float(row["from_time_us"]),
            f"{style.plain(str(row['name']), 140)}<br>{row['calls_a']:.4g} → {row['calls_b']:.4g} calls, "
            f"{_time(row['us_a'])} → {_time(row['us_b'])}: {row['reason']}",
        )
        for row in table.head(_MOST).to_dict("records")
        if row["change_us"]
    )
    rest = table.iloc[_MOST:]
    return ChangesInfo(rows, what, len(rest), float(rest["change_us"].sum()))


def changes_plot(info: ChangesInfo) -> go.Figure:
    """Draw a bar a change: to the right what costs more in the second trace, to the left what costs less."""
    largest = max((abs(row.change_us) for row in info.rows), default=0.0)
    divisor, unit = time_unit(largest)
    words = tuple(row.words for row in info.rows)
    first = info.rows[0] if info.rows else None
    title = "No change"
    if first is not None:
        more = "more" if first.change_us > 0 else "less"
        title = f"{kernel_label(first.name, 44)}: {_time(abs(first.change_us))} a step {more} (measured)"
    figure = bars_plot(
        [kernel_label(row.name, 48) for row in info.rows],
        [
            Bars(
                "by the number of calls",
                tuple(row.from_calls_us / divisor for row in info.rows),
                style.SERIES_COLOURS[4],
                words,
            ),
            Bars(
                "by the time of a call",
                tuple(row.from_time_us / divisor for row in info.rows),
                style.SERIES_COLOURS[1],
                words,
            ),
        ],
        title,
        f"change of a step from the first to the second trace, {unit}",
        mode="relative",
    )
    figure.add_vline(x=0, line={"color": style.NEUTRAL, "width": 1})
    return figure


def _time(us: float) -> str:
    return format_seconds(us / 1e6) if us else "0"
