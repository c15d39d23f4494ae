"""A learning-rate range test as a figure: loss over rates, beside the loss of weights that do not learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.views import style

_ROOM = 0.08
_MOST_TIMES = 1.5
"""How far above the loss at rate 0 the axis goes, in spans between that and the lowest: what runs away leaves it."""


@dataclass(frozen=True)
class RateInfo:
    """What the figure shows; ``group`` is empty for the rate of all weights."""

    group: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    control: tuple[float, ...]
    """Smoothed losses at rate 0, of the same batches."""
    suggestion: float | None
    steepest: float | None

    @property
    def title(self) -> str:
        """What to see, in one line."""
        whose = f"the group {style.plain(self.group)}" if self.group else "all weights"
        if self.suggestion is None:
            return f"No rate makes the loss of {whose} fall (measured)"
        return f"Take {self.suggestion:g} for {whose}: there the loss falls steadily (measured)"

    def table(self) -> pd.DataFrame:
        """Return every step of the test, one row each, for downloads."""
        return pd.DataFrame(
            {
                "learning_rate": self.rates,
                "loss": self.losses,
                "smoothed_loss": self.smoothed,
                "smoothed_loss_at_rate_0": self.control,
            }
        )


def rate_info(found: Mapping[str, Any]) -> RateInfo:
    """Return the picture of ``RateCurve.as_dict``."""
    return RateInfo(
        str(found["group"]),
        tuple(found["rates"]),
        tuple(found["losses"]),
        tuple(found["smoothed"]),
        tuple(found["smoothed_control"]),
        found["suggestion"],
        found["steepest"],
    )


def rate_plot(info: RateInfo) -> go.Figure:
    """Draw the losses over the rates, on a logarithmic axis, with a line at the suggestion."""
    colour = style.SOURCE_COLOURS["measured"]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=info.rates,
            y=info.losses,
            name="each step",
            mode="markers",
            marker={"size": 4, "color": style.with_alpha(colour, 0.45)},
            hovertemplate="rate %{x:.2g}<br>loss %{y:.4g}<extra>each step</extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=info.rates,
            y=info.control,
            name="at rate 0, the same batches",
            mode="lines",
            line={"color": style.NEUTRAL, "width": 1.5, "dash": "dot"},
            hovertemplate="loss %{y:.4g} at rate 0<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=info.rates,
            y=info.smoothed,
            name="smoothed",
            mode="lines",
            line={"color": colour, **style.LINE["measured"]},
            hovertemplate="rate %{x:.2g}<br>loss %{y:.4g}<extra>smoothed</extra>",
        )
    )
    for rate, name in ((info.steepest, "steepest"), (info.suggestion, "suggestion")):
        if rate is not None:
            chosen = name == "suggestion"
            figure.add_vline(
                x=rate,
                line={
                    "color": style.SERIES_COLOURS[2] if chosen else style.NEUTRAL,
                    "width": 2 if chosen else 1,
                    "dash": "solid" if chosen else "dot",
                },
            )
            figure.add_annotation(
                x=math.log10(
                    rate
                ),  # plotly wants exponents for words on a logarithmic axis, unlike for lines
                y=1 if chosen else 0,
                yref="paper",
                text=f"{name} {rate:.2g}",
                showarrow=False,
                xanchor="right" if chosen else "left",
                yanchor="top" if chosen else "bottom",
            )
    figure.update_layout(**style.layout(info.title, height=380))
    figure.update_xaxes(type="log", title_text="learning rate", exponentformat="power")
    figure.update_yaxes(title_text="training loss (nats)", range=_range(info))
    return figure


def _range(info: RateInfo) -> list[float] | None:
    """Return what of the losses to show: a loss that has run away would press all others into one line."""
    if not info.control:
        return None
    low, high = min(*info.smoothed, *info.control), max(info.control)
    top = max(high, min(max(info.losses), high + _MOST_TIMES * max(high - low, 0.05 * abs(high))))
    room = _ROOM * max(top - low, 1e-9)
    return [min(low, min(info.losses)) - room, top + room]
