"""Lying bars with long names, stacked by kind: what tables of operators, kernels and components look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hybridlab.views import style

_ROW_PIXELS = 24
_LETTERS = 52
_NOISE = (
    "nn.Module: ",
    *("void ", "at::native::", "(anonymous namespace)::", "at::", "_GLOBAL__N__", "native::"),
    *("c10::", "std::", "internal::"),
)


@dataclass(frozen=True)
class Bars:
    """One kind of work in every bar: its name, a value a bar, its colour, and words for those who point at it."""

    name: str
    values: tuple[float, ...]
    colour: str | Sequence[str]
    words: tuple[str, ...] = ()
    hatched: bool = False


def time_unit(largest_us: float) -> tuple[float, str]:
    """Return the µs in a unit that suits a time, and the unit's name."""
    if largest_us >= 1e6:
        return 1e6, "s"
    return (1e3, "ms") if largest_us >= 1e3 else (1.0, "µs")


def kernel_label(name: str, letters: int = _LETTERS) -> str:
    """Return the telling part of a kernel's name, short enough for an axis."""
    short = name
    for noise in _NOISE:
        short = short.replace(noise, "")
    return style.plain(short or name, letters)


def bars_plot(
    labels: Sequence[str],
    kinds: Sequence[Bars],
    title: str,
    axis: str,
    *,
    mode: str = "stack",
    percent: bool = False,
) -> go.Figure:
    """Draw a bar for each label from top to bottom; labels must be plain, and need not differ."""
    figure = go.Figure()
    places = list(range(len(labels)))
    for kind in kinds:
        figure.add_trace(
            go.Bar(
                x=list(kind.values),
                y=places,
                orientation="h",
                name=kind.name,
                marker={
                    "color": kind.colour if isinstance(kind.colour, str) else list(kind.colour),
                    "pattern": {"shape": "/" if kind.hatched else "", "size": 5, "solidity": 0.35},
                },
                customdata=list(kind.words) if kind.words else [style.plain(x) for x in labels],
                hovertemplate="%{customdata}<br>" + f"{kind.name}: %{{x:.4~g}}<extra></extra>",
                showlegend=len(kinds) > 1,
            )
        )
    x_axis: dict[str, Any] = {"title": {"text": axis}, "rangemode": "tozero"}
    if percent:
        x_axis |= {"range": [0, 100], "ticksuffix": " %"}
    figure.update_layout(
        **style.layout(
            title,
            barmode=mode,
            bargap=0.28,
            height=max(
                200, _ROW_PIXELS * len(labels) * (len(kinds) if mode == "group" else 1) + 130
            ),
            xaxis=x_axis,
            yaxis={
                "autorange": "reversed",
                "tickmode": "array",
                "tickvals": places,
                "ticktext": list(labels),
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
            },
            legend=style.LEGEND_ABOVE,
        )
    )
    if len(kinds) > 1:
        figure.update_layout(margin_t=76, title_y=0.98, title_yanchor="top")
    return figure
