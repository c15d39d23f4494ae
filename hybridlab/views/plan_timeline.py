"""Memory over the step that a plan makes, on top of each other by category or component, beside the step as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style
from hybridlab.views.profile_memory import (
    MIB,
    By,
    LiveInfo,
    Part,
    PeakInfo,
    live_plot,
    peak_info,
)


@dataclass(frozen=True)
class TimelineInfo:
    """What is there over a step with a plan, the totals of the plain step (ms and bytes), and the budget in bytes."""

    live: LiveInfo
    plain: tuple[tuple[float, ...], tuple[float, ...]]
    budget_bytes: int | None

    def table(self) -> pd.DataFrame:
        """Return the bytes of each part at each moment, a row each."""
        return pd.DataFrame(
            {
                "name": [part.name for part in self.live.parts for _ in self.live.at],
                "ms": [*self.live.at] * len(self.live.parts),
                "bytes": [size for part in self.live.parts for size in part.bytes],
            }
        )


def timeline_info(
    found: Mapping[str, Any],
    by: By = "category",
    plain: Mapping[str, Any] | None = None,
    budget_bytes: int | None = None,
) -> TimelineInfo:
    """Return the picture of what ``planning.timeline`` says of a step, beside the plain one where it is given."""
    at = tuple(map(float, found[by]["ms"]))
    parts = tuple(
        Part(str(name), tuple(map(float, sizes))) for name, sizes in found[by]["parts"].items()
    )
    total = _total(found, by)
    place = total.index(max(total)) if total else 0
    live = LiveInfo(
        "predicted",
        "ms",
        at,
        parts,
        at[place] if at else 0.0,
        float(found["peak_bytes"]),
        ((), ()),
        ((), ()),
    )
    other: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    if plain is not None:
        other = tuple(map(float, plain[by]["ms"])), tuple(_total(plain, by))
    return TimelineInfo(live, other, budget_bytes)


def timeline_plot(info: TimelineInfo) -> go.Figure:
    """Draw the parts on top of each other with the peak marked, the plain step's total and the budget as lines."""
    figure = live_plot(info.live)
    if info.plain[0]:
        figure.add_trace(
            go.Scatter(
                x=info.plain[0],
                y=[size / MIB for size in info.plain[1]],
                name="the step as it is",
                mode="lines",
                line={"color": style.NEUTRAL, "shape": "hv", **style.LINE["predicted"]},
                customdata=[format_bytes(size) for size in info.plain[1]],
                hovertemplate="%{customdata}<extra>%{fullData.name}</extra>",
            )
        )
    if info.budget_bytes is not None:
        colour = style.SERIES_COLOURS[2]
        figure.add_hline(y=info.budget_bytes / MIB, line={"color": colour, "width": 1.5})
        figure.add_annotation(
            x=1.0,
            xref="paper",
            xanchor="right",
            y=info.budget_bytes / MIB,
            yanchor="bottom",
            text="budget",
            showarrow=False,
            font={"color": colour},
        )
    figure.update_layout(height=440)
    figure.update_xaxes(title_text="time from the start of the step, predicted (ms)")
    figure.update_yaxes(title_text="bytes that are there, predicted (MiB)")
    return figure


def contents_info(found: Mapping[str, Any]) -> PeakInfo:
    """Return the picture of what the peak is made of, by component and category."""
    return peak_info(contents(found), "predicted")


def contents(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return what the peak is made of: category, component, bytes and source, the largest first."""
    rows = pd.DataFrame(found["at_peak"], columns=["category", "component", "bytes"])
    return rows.assign(source="predicted")


def _total(found: Mapping[str, Any], by: By) -> list[float]:
    return [float(sum(sizes)) for sizes in zip(*found[by]["parts"].values(), strict=True)]
