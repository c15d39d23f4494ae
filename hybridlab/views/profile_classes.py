"""How a model behaves by class of input: time by component, the load of experts, who leaves at an exit."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style

_MOST_ROWS = 40


@dataclass(frozen=True)
class ClassesInfo:
    """Components by classes: how far each one's time lies from its own mean over the classes, in per cent.

    ``steady`` are components whose spread is within the noise of repeated passes; they come last.
    """

    classes: tuple[str, ...]
    components: tuple[str, ...]
    ms: tuple[tuple[float, ...], ...]
    """Milliseconds of a sample, a row a component."""
    off_percent: tuple[tuple[float, ...], ...]
    steady: frozenset[str]

    @property
    def liveliest(self) -> str | None:
        """The component whose time depends most on the input; None where all is noise."""
        return next((name for name in self.components if name not in self.steady), None)


def classes_info(components: pd.DataFrame, spread: pd.DataFrame) -> ClassesInfo:
    """Return the picture of ``ByClass.components`` and ``ByClass.spread``."""
    steady = frozenset(spread.loc[spread["spread"] <= spread["noise"], "component"])
    order = [
        *(name for name in spread["component"] if name not in steady),
        *(name for name in spread["component"] if name in steady),
    ][:_MOST_ROWS]
    names = tuple(dict.fromkeys(components["input_class"]))
    table = components.pivot_table(index="component", columns="input_class", values="ms")
    table = table.reindex(index=order, columns=list(names)).fillna(0.0)
    means = table.mean(axis=1).clip(lower=1e-12)
    off = 100 * (table.div(means, axis=0) - 1)
    return ClassesInfo(
        names,
        tuple(order),
        tuple(map(tuple, table.to_numpy().tolist())),
        tuple(map(tuple, off.to_numpy().tolist())),
        steady,
    )


def classes_plot(info: ClassesInfo) -> go.Figure:
    """Draw components against classes, red where a component takes longer than it does on the others."""
    rows = [
        style.plain(name) + (" (noise)" if name in info.steady else "") for name in info.components
    ]
    worst = max((abs(value) for row in info.off_percent for value in row), default=1.0)
    ends = max(5.0, min(100.0, worst))
    words = [
        [
            f"{format_seconds(ms / 1e3)} a sample ({off:+.0f} %)"
            for ms, off in zip(*pair, strict=True)
        ]
        for pair in zip(info.ms, info.off_percent, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=info.off_percent,
            x=[style.plain(name) for name in info.classes],
            y=rows,
            text=words,
            zmid=0,
            zmin=-ends,
            zmax=ends,
            colorscale=[
                [0.0, style.SOURCE_COLOURS["predicted"]],
                [0.5, "rgba(128,136,149,0.12)"],
                [1.0, style.SOURCE_COLOURS["measured"]],
            ],
            colorbar={"title": {"text": "% off its mean"}},
            hovertemplate="%{y}<br>%{x}<br>%{text}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    liveliest = info.liveliest
    title = (
        "No component's time depends on the input beyond the noise (measured)"
        if liveliest is None
        else f"{style.plain(liveliest)} depends most on the input (time, measured)"
    )
    figure.update_layout(**style.layout(title, height=max(260, 24 * len(rows) + 140)))
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure.update_xaxes(title_text="class of input", automargin=True, showgrid=False)
    return figure


@dataclass(frozen=True)
class LoadInfo:
    """Shares by class: of each expert's load, or of the samples that leave at an exit."""

    component: str
    what: str
    classes: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    """A row for each expert, a share for each class."""


def load_infos(reports: pd.DataFrame) -> tuple[LoadInfo, ...]:
    """Return a picture for each component that routes (``load``) or lets samples go (``left``)."""
    found = []
    for (component, name), mine in reports.groupby(["component", "name"], sort=False):
        if name not in ("load", "left"):
            continue
        classes = tuple(dict.fromkeys(mine["input_class"]))
        table = mine.pivot_table(index="index", columns="input_class", values="value")
        rows = table.reindex(columns=list(classes)).fillna(0.0).to_numpy().tolist()
        found.append(LoadInfo(str(component), str(name), classes, tuple(map(tuple, rows))))
    return tuple(found)


def load_plot(info: LoadInfo) -> go.Figure:
    """Draw a bar for each class: who of the experts gets how much of it, or how many leave."""
    routes = info.what == "load"
    figure = go.Figure()
    for place, shares in enumerate(info.shares):
        name = f"expert {place}" if routes else "left here"
        figure.add_trace(
            go.Bar(
                x=[style.plain(name) for name in info.classes],
                y=[100 * share for share in shares],
                name=name,
                marker={"color": style.series_colour(place)},
                hovertemplate=f"%{{x}}<br>{name}: %{{y:.1f}} %<extra></extra>",
            )
        )
    title = f"{style.plain(info.component)}: " + (
        "who gets which input (measured)" if routes else "who leaves early (measured)"
    )
    figure.update_layout(
        **style.layout(title, height=340, barmode="stack", showlegend=routes),
        legend_y=-0.35,
        legend_traceorder="normal",
    )
    figure.update_yaxes(
        title_text="% of the choices" if routes else "% of the samples", range=[0, 100]
    )
    figure.update_xaxes(title_text="class of input", automargin=True)
    return figure
