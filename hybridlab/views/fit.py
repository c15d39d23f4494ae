"""What fits a memory: the time of a sample over sizes that fit as they are, and over those that need a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style


@dataclass(frozen=True)
class FitInfo:
    """Sizes in rising order with the time of a sample (ms); ``plain_size`` is the largest that needs no plan."""

    axis: str
    sizes: tuple[int, ...]
    sample_ms: tuple[float, ...]
    words: tuple[str, ...]
    plain_size: int | None
    title: str


def fit_info(found: Mapping[str, Any]) -> FitInfo:
    """Return the picture of what ``planning.fit`` found."""
    rows = rows_of(found)
    plain, planned = found["plain"], found["planned"]
    axis = str(found["axis"])
    title = f"Not even {axis} 1 fits (predicted)"
    if planned:
        title = f"With plans {axis} {planned['size']:,} fits (predicted)"
    if planned and plain:
        times = planned["size"] / plain["size"]
        more = 100 * (planned["sample_ms"] / plain["sample_ms"] - 1)
        title = (
            f"Plans fit {times:.2g} times the {axis}, at {more:+.0f} % time a sample (predicted)"
        )
    return FitInfo(
        axis,
        tuple(row["size"] for row in rows),
        tuple(row["sample_ms"] for row in rows),
        tuple(
            f"{format_bytes(row['peak_bytes'])} at the peak, {row['again']} of {found['components']} again"
            for row in rows
        ),
        plain["size"] if plain else None,
        title,
    )


def rows_of(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all sizes that were found, the smallest first, each once."""
    rows = [found["plain"], *found["beyond"], found["planned"]]
    return list({row["size"]: row for row in rows if row}.values())


def fit_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each size: what it takes with its fastest plan, predicted."""
    names = ["size", "peak_bytes", "step_ms", "sample_ms", "again", "traced"]
    return pd.DataFrame(rows_of(found), columns=names)


def fit_plot(info: FitInfo) -> go.Figure:
    """Draw the time of a sample over the size, with a line where plans begin."""
    colour = style.SOURCE_COLOURS["predicted"]
    figure = go.Figure(
        go.Scatter(
            x=info.sizes,
            y=info.sample_ms,
            name="fastest plan that fits, predicted",
            mode="lines+markers",
            marker={"size": 8, "color": colour},
            line={"color": colour, **style.LINE["predicted"]},
            customdata=info.words,
            hovertemplate="%{x:,}: %{y:.3g} ms a sample<br>%{customdata}<extra></extra>",
        )
    )
    if info.plain_size is not None:
        figure.add_vline(
            x=info.plain_size, line={"color": style.NEUTRAL, "width": 1.5, "dash": "dot"}
        )
        figure.add_annotation(
            x=info.plain_size,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            xanchor="left",
            text=f"as it is up to {info.plain_size:,}",
            showarrow=False,
            font={"color": style.NEUTRAL},
        )
    figure.update_layout(**style.layout(info.title, height=360))
    figure.update_layout(margin={"t": 64})
    figure.update_xaxes(
        title_text="samples in a batch" if info.axis == "batch" else "length (positions)"
    )
    figure.update_yaxes(
        title_text="time a sample (ms)" if info.axis == "batch" else "time a position (ms)",
        rangemode="tozero",
    )
    return figure
