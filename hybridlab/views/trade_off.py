"""Peak memory against time: the planner's plans, plans by count alone, the step as it is, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.planning.compared import Compared
from hybridlab.planning.record import Figures, Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.units import format_bytes
from hybridlab.views import style

MIB = 2**20
_FEW = 6
"""Kinds of points whose names stand in two columns."""
_COLOURS = {"planner": style.SERIES_COLOURS[0], "uniform": style.NEUTRAL}
Kind = Literal["planner", "uniform", "as it is", "chosen", "PyTorch's budget", "compiled plan"]


@dataclass(frozen=True)
class Dot:
    """One plan of the chart: bytes at its peak, milliseconds of its step, and words for those who point at it."""

    kind: Kind
    source: style.Source
    peak_bytes: int
    step_ms: float
    words: str


@dataclass(frozen=True)
class TradeOffInfo:
    """All plans of the chart, the budget in bytes, and the smallest peak that any plan reaches."""

    dots: tuple[Dot, ...]
    budget_bytes: int
    least_bytes: int
    title: str

    def of(self, kind: Kind, source: style.Source = "predicted") -> list[Dot]:
        """Return the dots of one kind and source, in the order of the curve."""
        return [dot for dot in self.dots if (dot.kind, dot.source) == (kind, source)]

    def table(self) -> pd.DataFrame:
        """Return every dot as a row."""
        return pd.DataFrame(
            {
                "plan": [dot.kind for dot in self.dots],
                "source": [dot.source for dot in self.dots],
                "peak_bytes": [dot.peak_bytes for dot in self.dots],
                "step_ms": [dot.step_ms for dot in self.dots],
                "what": [dot.words for dot in self.dots],
            }
        )


def trade_off_info(
    found: TradeOff,
    chosen: Plan,
    budget_bytes: int,
    measured: Sequence[Plan] = (),
    compiled: Compared | None = None,
) -> TradeOffInfo:
    """Return the chart of a curve; ``measured`` are plans of the same step that were applied, ``compiled`` beside."""
    plain = found.plain.predicted
    dots = [
        Dot("planner", "predicted", peak, took, _words(len(spans), len(away)))
        for peak, took, spans, away in zip(
            found.peak_bytes,
            found.step_ms,
            found.spans,
            found.away or ((),) * len(found),
            strict=True,
        )
    ]
    dots += [
        Dot("uniform", "predicted", one.predicted.peak_bytes, one.predicted.step_ms, one.name)
        for one in found.uniform
    ]
    dots += [Dot("as it is", "predicted", plain.peak_bytes, plain.step_ms, "nothing again")]
    dots += [_dot("chosen", "predicted", chosen, chosen.predicted)]
    for plan in measured:
        if plan.measured is not None:
            kind: Kind = "planner" if plan.does_something else "as it is"
            dots.append(_dot(kind, "measured", plan, plan.measured))
    if compiled is not None:
        dots += _compiled(compiled)
    return TradeOffInfo(
        tuple(dots), budget_bytes, found.least_bytes, _title(chosen.predicted, plain)
    )


def trade_off_plot(info: TradeOffInfo) -> go.Figure:
    """Draw peaks to the right and times upwards; the lower left is better, the budget is a line."""
    figure = go.Figure()
    predicted = style.SOURCE_COLOURS["predicted"]
    _dots(
        figure,
        info.of("uniform"),
        "uniform recomputation, predicted",
        {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": style.NEUTRAL}},
    )
    curve = info.of("planner")
    _dots(
        figure,
        curve,
        "planner, predicted",
        {"size": 6 if len(curve) < 80 else 4, "color": predicted},
        line={"color": predicted, **style.LINE["predicted"], "shape": "hv", "width": 1.2},
    )
    _dots(
        figure,
        info.of("as it is"),
        "as it is, predicted",
        {"symbol": "diamond-open", "size": 13, "color": predicted, "line": {"width": 2}},
    )
    _dots(
        figure,
        info.of("chosen"),
        "your plan, predicted",
        {"symbol": "circle-open", "size": 16, "color": predicted, "line": {"width": 3}},
    )
    measured = style.SOURCE_COLOURS["measured"]
    _dots(
        figure,
        info.of("planner", "measured"),
        "with a plan, measured",
        {"symbol": "circle", "size": 11, "color": measured},
    )
    _dots(
        figure,
        info.of("as it is", "measured"),
        "as it is, measured",
        {"symbol": "diamond", "size": 12, "color": measured},
    )
    _dots(
        figure,
        info.of("PyTorch's budget", "measured"),
        "PyTorch's budget, measured, compiled",
        {"symbol": "square", "size": 10, "color": style.SERIES_COLOURS[4]},
    )
    _dots(
        figure,
        info.of("compiled plan", "measured"),
        "a plan of the compiled step, measured",
        {"symbol": "star", "size": 12, "color": style.SERIES_COLOURS[5]},
    )
    _lines(figure, info)
    tall = len(figure.data) > _FEW  # a legend that is one column wide must not meet the axis
    figure.update_layout(**style.layout(info.title, height=560 if tall else 440))
    figure.update_layout(margin={"t": 86}, legend={"y": -0.3 if tall else -0.22})
    figure.update_traces(unselected={"marker": {"opacity": 1}})  # a click sets the budget, no more
    figure.update_xaxes(title_text="peak memory of a step (MiB)")
    figure.update_yaxes(title_text="time of a step (ms)", rangemode="normal")
    return figure


def _lines(figure: go.Figure, info: TradeOffInfo) -> None:
    """Mark the budget, and the smallest peak, with words above the chart."""
    for size, name, colour, dash in (
        (info.least_bytes, "least", style.NEUTRAL, "dot"),
        (info.budget_bytes, "budget", style.SERIES_COLOURS[2], "solid"),
    ):
        figure.add_vline(x=size / MIB, line={"color": colour, "width": 1.5, "dash": dash})
        figure.add_annotation(
            x=size / MIB,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            yshift=14 if name == "budget" else 0,
            text=f"{name} {format_bytes(size)}",
            showarrow=False,
            font={"color": colour},
        )


def _dots(
    figure: go.Figure,
    dots: Sequence[Dot],
    name: str,
    marker: dict[str, object],
    line: dict[str, object] | None = None,
) -> None:
    if not dots:
        return
    figure.add_trace(
        go.Scatter(
            x=[dot.peak_bytes / MIB for dot in dots],
            y=[dot.step_ms for dot in dots],
            name=name,
            mode="lines+markers" if line else "markers",
            marker=marker,
            line=line,
            customdata=[[format_bytes(dot.peak_bytes), style.plain(dot.words)] for dot in dots],
            hovertemplate="%{customdata[0]}, %{y:.3g} ms<br>%{customdata[1]}"
            "<extra>%{fullData.name}</extra>",
        )
    )


def _dot(kind: Kind, source: style.Source, plan: Plan, figures: Figures) -> Dot:
    words = _words(len(plan.recompute), len(plan.offload))
    return Dot(kind, source, figures.peak_bytes, figures.step_ms, words)


def _compiled(found: Compared) -> list[Dot]:
    """Return the compiled steps, and the plain one that was measured with them."""
    plain = found.plain
    dots = [Dot("as it is", "measured", plain.peak_bytes, plain.step_ms, "beside the compiled")]
    dots += [
        Dot(
            "PyTorch's budget",
            "measured",
            one.measured.peak_bytes,
            one.measured.step_ms,
            f"{one.told}, its gradients within {one.difference:.0e}",
        )
        for one in found.found
        if one.measured is not None
    ]
    dots += [
        Dot(
            "compiled plan",
            "measured",
            one.measured.peak_bytes,
            one.measured.step_ms,
            f"{one.told}, its gradients within {one.difference:.0e}; "
            f"{format_bytes(one.predicted.peak_bytes)} were predicted",
        )
        for one in found.planned
        if one.measured is not None
    ]
    return dots


def _words(again: int, away: int) -> str:
    """Say how many runs are computed again, and how many components are offloaded."""
    return _runs(again) + (f", {away} offloaded" if away else "")


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''} again" if count else "nothing again"


def _title(chosen: Figures, plain: Figures) -> str:
    """Say what the chosen plan saves and costs."""
    if chosen.peak_bytes >= plain.peak_bytes:
        return "At this budget the step stays as it is (predicted)"
    less = 100 * (1 - chosen.peak_bytes / plain.peak_bytes)
    more = 100 * (chosen.step_ms / plain.step_ms - 1)
    return f"{less:.0f} % less memory for {more:.0f} % more time (predicted)"
