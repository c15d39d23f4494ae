"""The gradient flow of a run: a heat map of components over steps, and how far the network's gradients lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.training.flow import QUANTITIES, Flow
from hybridlab.training.flow_findings import BROKEN, UNEVEN
from hybridlab.views import style

_SCALE = [
    [0.0, "rgba(76,120,221,0.25)"],
    [0.5, "#4c78dd"],
    [0.8, "#d64f8a"],
    [1.0, "#f08a24"],
]
_MOST_TICKS = 6


@dataclass(frozen=True)
class HeatInfo:
    """A quantity by component (rows, in running order) and step (columns); None where it was not measured."""

    quantity: str
    components: tuple[str, ...]
    steps: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]

    def table(self) -> pd.DataFrame:
        """Return a row for each value: component, step and the quantity."""
        rows = [
            {"component": name, "step": step, self.quantity: value}
            for name, line in zip(self.components, self.values, strict=True)
            for step, value in zip(self.steps, line, strict=True)
            if value is not None
        ]
        return pd.DataFrame(rows, columns=["component", "step", self.quantity])


def heat_info(flow: Flow, quantity: str) -> HeatInfo:
    """Return the picture of one of ``flow.QUANTITIES``; components of which it was never measured have no row."""
    curves = flow.curves.get(quantity, {})
    steps = flow.steps(quantity)
    paths = [part.path for part in flow.parts if curves.get(part.path)]
    return HeatInfo(
        quantity,
        tuple(paths),
        tuple(steps),
        tuple(tuple(curves[path].get(step) for step in steps) for path in paths),
    )


def heat_plot(info: HeatInfo) -> go.Figure:
    """Draw components against steps; the colour is logarithmic where sizes differ by powers of ten."""
    quantity = QUANTITIES[info.quantity]
    figure = go.Figure(
        go.Heatmap(
            z=[[_shade(value, quantity.logarithmic) for value in line] for line in info.values],
            x=[f"{step:,}" for step in info.steps],
            y=[style.plain(name) for name in info.components],
            text=[["" if v is None else f"{v:.4g}" for v in line] for line in info.values],
            hovertemplate=f"%{{y}} at step %{{x}}<br>{quantity.title} %{{text}}<extra></extra>",
            hoverongaps=False,
            colorscale=_SCALE,
            colorbar=_bar(info),
        )
    )
    height = max(260, 22 * len(info.components) + 130)
    figure.update_layout(**style.layout(_title(info), height=height))
    figure.update_xaxes(title_text="step", type="category", showgrid=False, nticks=12)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def _shade(value: float | None, logarithmic: bool) -> float | None:
    if value is None or not logarithmic:
        return value
    return math.log10(value) if value > 0 else None


def _title(info: HeatInfo) -> str:
    """Say what the newest column shows."""
    title = QUANTITIES[info.quantity].title
    newest = {
        name: line[-1]
        for name, line in zip(info.components, info.values, strict=True)
        if line and line[-1] is not None
    }
    if not newest:
        return f"{title}: nothing was measured"
    low, high = min(newest, key=newest.__getitem__), max(newest, key=newest.__getitem__)
    words = f"{newest[low]:.3g} in {style.plain(low, 40)} to {newest[high]:.3g} in {style.plain(high, 40)}"
    return f"{title} at step {info.steps[-1]:,}: {words} (measured)"


def _bar(info: HeatInfo) -> dict[str, object]:
    """Return a colour bar with the quantity's unit; powers of ten where the colour is logarithmic."""
    quantity = QUANTITIES[info.quantity]
    bar: dict[str, object] = {"title": {"text": quantity.unit, "side": "right"}, "thickness": 12}
    sizes = [value for line in info.values for value in line if value is not None and value > 0]
    if not quantity.logarithmic or not sizes:
        return bar
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    powers = list(range(low, high + 1, max(1, math.ceil((high - low) / _MOST_TICKS))))
    return {**bar, "tickvals": powers, "ticktext": [f"1e{power}" for power in powers]}


@dataclass(frozen=True)
class RatioInfo:
    """Largest over smallest gradient norm of single components, by step."""

    steps: tuple[int, ...]
    ratios: tuple[float, ...]

    def table(self) -> pd.DataFrame:
        """Return a row for each step."""
        return pd.DataFrame({"step": self.steps, "largest_over_smallest": self.ratios})


def ratio_info(flow: Flow) -> RatioInfo:
    """Return how far gradients lie apart."""
    ratios = flow.ratios()
    return RatioInfo(tuple(ratios), tuple(ratios.values()))


def ratio_plot(info: RatioInfo) -> go.Figure:
    """Draw the ratio over steps on a logarithmic axis, with the lines from which on it is remarked on."""
    figure = go.Figure(
        go.Scatter(
            x=info.steps,
            y=info.ratios,
            mode="lines+markers",
            line={**style.LINE["measured"], "color": style.SERIES_COLOURS[0]},
            marker={"size": 5},
            hovertemplate="step %{x:,}<br>%{y:,.3g} times<extra></extra>",
            name="measured",
        )
    )
    for line, words, side in ((UNEVEN, "uneven", "top"), (BROKEN, "broken", "bottom")):
        figure.add_hline(y=line, line={"color": style.NEUTRAL, "dash": "dot", "width": 1})
        figure.add_annotation(
            text=f"{words} from {line:,.0f}",
            x=0,
            xref="paper",
            y=math.log10(line),  # where a logarithmic axis wants it
            showarrow=False,
            xanchor="left",
            yanchor=side,
            font={"color": style.NEUTRAL, "size": 11},
        )
    title = "No gradients were measured"
    if info.ratios:
        title = (
            f"The largest gradient is {info.ratios[-1]:,.3g} times the smallest at step "
            f"{info.steps[-1]:,} (measured)"
        )
    figure.update_layout(**style.layout(title, height=280, showlegend=False))
    figure.update_xaxes(title_text="step")
    high = max((*info.ratios, 2 * BROKEN))
    figure.update_yaxes(
        title_text="largest ÷ smallest", type="log", range=[0, math.log10(high) + 0.3], dtick=1
    )
    return figure
