"""Communication in traces: what of it is hidden behind computation, which operations it is, and ranks beside ranks."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes, format_seconds
from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, time_unit

PARTS = {
    "computing": "Computing alone",
    "both": "Computing and communicating",
    "exposed": "Communicating alone (exposed)",
    "neither": "Neither",
}
_COLOURS = dict(
    zip(
        PARTS,
        (
            style.SERIES_COLOURS[0],
            style.SERIES_COLOURS[4],
            style.SERIES_COLOURS[3],
            style.OTHER_COLOUR,
        ),
        strict=True,
    )
)
_MOST = 40


@dataclass(frozen=True)
class OverlapInfo:
    """Steps, or ranks, and how much of each was which of ``PARTS``, in µs."""

    names: tuple[str, ...]
    parts: dict[str, tuple[float, ...]]

    @property
    def exposed_share(self) -> float | None:
        """Share of the communication during which nothing computed, 0 to 1."""
        both, exposed = sum(self.parts["both"]), sum(self.parts["exposed"])
        return exposed / (both + exposed) if both + exposed else None


def steps_overlap_info(table: pd.DataFrame) -> OverlapInfo:
    """Return the overlap in each step of a report's table ``steps``."""
    shown = table.head(_MOST)
    return _overlap(
        tuple(f"step {style.plain(str(name), 20)}" for name in shown["step"]),
        shown["duration_us"],
        shown["computation_us"],
        shown["communication_us"],
        shown["overlap_us"],
    )


def ranks_info(table: pd.DataFrame) -> OverlapInfo:
    """Return the overlap in the mean step of each rank, from the table of ranks."""
    return _overlap(
        tuple(f"rank {rank}" for rank in table["rank"]),
        table["step_us"],
        table["computation_us"],
        table["communication_us"],
        table["overlap_us"],
    )


def _overlap(
    names: tuple[str, ...],
    duration: pd.Series,
    computation: pd.Series,
    communication: pd.Series,
    overlap: pd.Series,
) -> OverlapInfo:
    parts = {
        "computing": computation - overlap,
        "both": overlap,
        "exposed": communication - overlap,
        "neither": (duration - computation - communication + overlap).clip(lower=0.0),
    }
    return OverlapInfo(names, {name: tuple(part.tolist()) for name, part in parts.items()})


def overlap_plot(info: OverlapInfo, what: str = "step") -> go.Figure:
    """Draw a bar a step or a rank, stacked by what ran."""
    largest = max((sum(times) for times in zip(*info.parts.values(), strict=True)), default=0.0)
    divisor, unit = time_unit(largest)
    share = info.exposed_share
    title = (
        "Nothing was communicated within steps (measured)"
        if share is None
        else f"{100 * share:.0f} % of the communication is exposed: nothing computed meanwhile (measured)"
    )
    return bars_plot(
        info.names,
        [
            Bars(PARTS[name], tuple(us / divisor for us in times), _COLOURS[name])
            for name, times in info.parts.items()
        ],
        title,
        f"time of a {what}, {unit}",
    )


@dataclass(frozen=True)
class CollectivesInfo:
    """Operations between processes: labels, and times of all calls in µs, exposed and not."""

    labels: tuple[str, ...]
    exposed_us: tuple[float, ...]
    hidden_us: tuple[float, ...]
    words: tuple[str, ...]


def collectives_info(table: pd.DataFrame, most: int = 20) -> CollectivesInfo:
    """Return the longest operations of a report's table ``collectives``."""
    labels, exposed, hidden, words = [], [], [], []
    for row in table.head(most).to_dict("records"):
        size = None if pd.isna(row["message_bytes"]) else format_bytes(row["message_bytes"])
        labels.append(style.plain(f"{row['name']}, {size}" if size else str(row["name"]), 44))
        exposed.append(float(row["exposed_us"]))
        hidden.append(max(0.0, float(row["total_us"]) - float(row["exposed_us"])))
        words.append(
            f"{style.plain(str(row['name']), 100)}<br>{row['calls']:,} calls of "
            f"{format_seconds(row['mean_us'] / 1e6)}<br>message: {size or 'size not told'}"
        )
    return CollectivesInfo(tuple(labels), tuple(exposed), tuple(hidden), tuple(words))


def collectives_plot(info: CollectivesInfo) -> go.Figure:
    """Draw a bar an operation, exposed and hidden."""
    totals = [a + b for a, b in zip(info.exposed_us, info.hidden_us, strict=True)]
    divisor, unit = time_unit(max(totals, default=0.0))
    share = 100 * totals[0] / sum(totals) if totals and sum(totals) else 0
    title = f"{info.labels[0]}: {share:.0f} % of the communication (measured)" if totals else ""
    return bars_plot(
        info.labels,
        [
            Bars(
                "exposed",
                tuple(x / divisor for x in info.exposed_us),
                _COLOURS["exposed"],
                info.words,
            ),
            Bars(
                "hidden", tuple(x / divisor for x in info.hidden_us), _COLOURS["both"], info.words
            ),
        ],
        title,
        f"time of all calls on the device, {unit}",
    )
