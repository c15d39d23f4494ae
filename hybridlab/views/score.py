"""A result beside what is reached without learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from hybridlab.views import style


@dataclass(frozen=True)
class ScoreInfo:
    """A metric's value in a run, and the baselines'; ``better`` says whether the run beats all of them."""

    metric: str
    value: float
    baselines: tuple[tuple[str, float], ...]
    higher_is_better: bool
    unit: str = ""

    @property
    def better(self) -> bool:
        """Whether the run beats every baseline."""
        if self.higher_is_better:
            return all(self.value > value for _, value in self.baselines)
        return all(self.value < value for _, value in self.baselines)


def score_info(
    metric: str,
    value: float,
    baselines: Mapping[str, float],
    *,
    higher_is_better: bool,
    unit: str = "",
) -> ScoreInfo:
    """Return a result with its baselines, the best baseline first."""
    ordered = sorted(baselines.items(), key=lambda item: item[1], reverse=higher_is_better)
    return ScoreInfo(metric, value, tuple(ordered), higher_is_better, unit)


def score_plot(info: ScoreInfo) -> go.Figure:
    """Draw the run's value and the baselines' as bars."""
    names = ["this run", *(style.plain(name.replace("_", " "), 40) for name, _ in info.baselines)]
    values = [info.value, *(value for _, value in info.baselines)]
    colours = [style.SERIES_COLOURS[0]] + [style.OTHER_COLOUR] * len(info.baselines)
    word = info.metric.replace("_", " ")
    verdict = "beats" if info.better else "does not beat"
    told = f"{info.value:.3g} {info.unit}".rstrip()
    title = f"{word.capitalize()} {told}, {verdict} what needs no learning"
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": colours},
            text=[f"{value:.3g}" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        )
    )
    direction = "higher is better" if info.higher_is_better else "lower is better"
    figure.update_layout(**style.layout(title, height=130 + 30 * len(values), bargap=0.35))
    axis = f"{word}, {info.unit}" if info.unit else word
    figure.update_xaxes(title_text=f"{axis} ({direction})", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return figure
