"""What a search's choices do: all of a trial in one line, which of them matter, and how they change along the front."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridlab.search.insight import importance
from hybridlab.search.landscape import Array
from hybridlab.search.state import StudyState
from hybridlab.views import style
from hybridlab.views.search_axes import Axis, axis_of, written

MOST_LINES = 2_000
MOST_CHOICES = 9
_SLOTS = ("use", "mixer")


@dataclass(frozen=True, eq=False)
class ImportanceInfo:
    """For each choice, the most important first, what it explains of each objective's spread, 0 to 1."""

    choices: tuple[str, ...]
    objectives: tuple[str, ...]
    shares: Array
    trials: int

    @property
    def title(self) -> str:
        """What to see, in one line."""
        if not self.trials or not len(self.shares) or float(self.shares.max()) == 0:
            return "No choice stands out yet"
        return f"{style.plain(self.choices[0])} decides most"

    def table(self) -> pd.DataFrame:
        """Return the shares, one row a choice."""
        table = pd.DataFrame(self.shares, columns=list(self.objectives))
        table.insert(0, "choice", list(self.choices))
        return table


def importance_info(state: StudyState) -> ImportanceInfo:
    """Return what each choice explains of the values of the trials that have them."""
    rows = [state.rows[at] for at in state.done]
    names = [str(choice["name"]) for choice in state.about.choices]
    columns = {name: [row.design.get(name) for row in rows] for name in names}
    found = importance(columns, state.values)
    names.sort(key=lambda name: -max(found[name], default=0.0))
    shares = np.array([found[name] for name in names]).reshape(len(names), len(state.objectives))
    titles = tuple(axis_of(one, np.empty(0)).title for one in state.objectives)
    return ImportanceInfo(tuple(names), titles, shares, len(rows))


def importance_plot(info: ImportanceInfo, most: int = 12) -> go.Figure:
    """Draw a bar for each choice and objective."""
    figure = go.Figure()
    names = [style.plain(name, 40) for name in info.choices[:most]]
    for at, objective in enumerate(info.objectives):
        figure.add_trace(
            go.Bar(
                x=100 * info.shares[:most, at],
                y=names,
                orientation="h",
                name=objective,
                marker={"color": style.series_colour(at)},
                hovertemplate="%{y}: %{x:.1f} %<extra>" + objective + "</extra>",
            )
        )
    height = max(380, 150 + 18 * len(names) * max(1, len(info.objectives)))
    figure.update_layout(**style.layout(info.title, height=height, bargap=0.3))
    figure.update_xaxes(title_text="share of the spread that the choice explains alone (%)")
    figure.update_yaxes(autorange="reversed")
    return figure


@dataclass(frozen=True)
class LinesInfo:
    """Trials as lines over choices and objectives: titles, for each its values, and the words of places."""

    numbers: tuple[int, ...]
    titles: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    words: tuple[tuple[str, ...], ...]
    """For a choice, what its places 0, 1, … stand for; empty for an objective."""
    front: tuple[bool, ...]

    @property
    def title(self) -> str:
        """What to see, in one line."""
        return f"{len(self.numbers):,} trials; draw along an axis to keep only what passes there"


def lines_info(state: StudyState, *, front_only: bool, choices: tuple[str, ...]) -> LinesInfo:
    """Return the front's trials, or the newest with values, over these choices and then all objectives."""
    on_front = set(state.front)
    places = list(state.front) if front_only else list(state.done)[-MOST_LINES:]
    rows = [state.rows[at] for at in places]
    known = {str(one["name"]): list(one["values"]) for one in state.about.choices}
    titles, values, words = [], [], []
    for name in choices:
        options = known[name]
        taken = [row.design.get(name) for row in rows]
        titles.append(style.plain(name, 24))
        values.append(tuple(float(options.index(v)) if v in options else -1.0 for v in taken))
        words.append(tuple(style.plain(str(option), 18) for option in options))
    for at, objective in enumerate(state.objectives):
        column = np.array([row.values[at] for row in rows], dtype=np.float64)
        axis: Axis = axis_of(objective, column)
        titles.append(f"{axis.title} ({axis.unit})" if axis.unit else axis.title)
        values.append(tuple((column / axis.scale).tolist()))
        words.append(())
    return LinesInfo(
        tuple(row.number for row in rows),
        tuple(titles),
        tuple(values),
        tuple(words),
        tuple(at in on_front for at in places),
    )


def lines_plot(info: LinesInfo, ink: str) -> go.Figure:
    """Draw parallel coordinates; the colour is the last objective's value. ``ink`` is the colour of words."""
    dimensions = []
    for title, values, words in zip(info.titles, info.values, info.words, strict=True):
        axis = {"label": title, "values": values}
        if words:
            axis |= {
                "tickvals": list(range(len(words))),
                "ticktext": list(words),
                "range": [-0.3, len(words) - 0.7],
            }
        dimensions.append(axis)
    colour = info.values[-1] if info.values else ()
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": colour,
                "colorscale": [[0, style.SERIES_COLOURS[5]], [1, style.SERIES_COLOURS[1]]],
                "showscale": False,
            },
            labelangle=-20,
            labelside="top",
            labelfont={"color": ink, "size": 12},
            tickfont={"color": ink, "size": 11},
            rangefont={"color": ink, "size": 10},
        )
    )
    figure.update_layout(
        **{**style.layout(info.title, height=470), "margin": {"l": 70, "r": 70, "t": 140, "b": 24}}
    )
    return figure


@dataclass(frozen=True)
class SpreadInfo:
    """How often each component stands in a slot, for each point of the front, cheapest first; rows sum to 1."""

    trials: tuple[int, ...]
    at: tuple[str, ...]
    components: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    axis: str

    @property
    def title(self) -> str:
        """What to see, in one line."""
        if not self.components:
            return "No slot of this search takes several components"
        return f"Components along the front, by {self.axis}"

    def table(self) -> pd.DataFrame:
        """Return the shares, one row a point."""
        table = pd.DataFrame(list(self.shares), columns=list(self.components))
        table.insert(0, "trial", list(self.trials))
        return table


def spread_info(state: StudyState, column: int) -> SpreadInfo:
    """Return which components the slots of the front's points hold, in the order of one objective."""
    slots = [
        str(one["name"])
        for one in state.about.choices
        if str(one["name"]).rpartition(".")[2].split("_")[0] in _SLOTS
        and all(isinstance(value, str) for value in one["values"])
    ]
    rows = sorted((state.rows[at] for at in state.front), key=lambda row: row.values[column] or 0.0)
    objective = state.objectives[column]
    taken = [Counter(str(row.design.get(slot)) for slot in slots) for row in rows]
    components = tuple(sorted({name for one in taken for name in one}))
    return SpreadInfo(
        tuple(row.number for row in rows),
        tuple(written(objective, row.values[column]) for row in rows),
        components if slots else (),
        tuple(tuple(one[name] / len(slots) for name in components) for one in taken)
        if slots
        else (),
        axis_of(objective, np.empty(0)).title,
    )


def spread_plot(info: SpreadInfo) -> go.Figure:
    """Draw one stacked bar for each point of the front."""
    figure = go.Figure()
    for at, name in enumerate(info.components):
        figure.add_trace(
            go.Bar(
                x=list(range(len(info.trials))),
                y=[100 * row[at] for row in info.shares],
                name=style.plain(name, 30),
                marker={"color": style.series_colour(at)},
                customdata=list(zip(info.trials, info.at, strict=True)),
                hovertemplate="trial %{customdata[0]}, %{customdata[1]}<br>%{y:.0f} %<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(**style.layout(info.title, height=340, barmode="stack", bargap=0.08))
    figure.update_layout(legend_y=-0.42, showlegend=True)  # also where one component is everywhere
    every = max(1, len(info.at) // 6)
    figure.update_xaxes(
        title_text=f"points of the front, {info.axis}",
        tickvals=list(range(0, len(info.at), every)),
        ticktext=list(info.at[::every]),
    )
    figure.update_yaxes(title_text="share of the slots (%)", range=[0, 100])
    return figure
