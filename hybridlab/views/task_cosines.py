"""How the gradients of several tasks stand to each other: a matrix for a component, and components side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.training.task_cosines import WHOLE, Cosines
from hybridlab.views import style

_SCALE = [[0.0, "#d64f8a"], [0.5, "rgba(128,136,149,0.15)"], [1.0, "#4c78dd"]]
"""Against each other, at a right angle, along each other."""


@dataclass(frozen=True)
class MatrixInfo:
    """The cosine of every pair of tasks' gradients at one component (``*``: all they share) and step."""

    address: str
    step: int
    tasks: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def worst(self) -> tuple[str, str, float] | None:
        """The pair that pulls least in one direction, with its cosine; None where nothing was measured."""
        found = [
            (value, row, column)
            for row, line in enumerate(self.values)
            for column, value in enumerate(line)
            if column < row and value is not None
        ]
        if not found:
            return None
        value, row, column = min(found)
        return self.tasks[column], self.tasks[row], value

    def table(self) -> pd.DataFrame:
        """Return a row for each pair of tasks."""
        rows = [
            (self.address, self.step, self.tasks[column], self.tasks[row], value)
            for row, line in enumerate(self.values)
            for column, value in enumerate(line)
            if column < row and value is not None
        ]
        return pd.DataFrame(rows, columns=["component", "step", "task", "other", "cosine"])


def matrix_info(found: Cosines, address: str = WHOLE, step: int | None = None) -> MatrixInfo:
    """Return the matrix of a component at a step, the newest one where none is named."""
    steps = found.steps()
    at = step if step is not None else (steps[-1] if steps else 0)
    return MatrixInfo(address, at, found.tasks, found.matrix(address, at))


def matrix_plot(info: MatrixInfo) -> go.Figure:
    """Draw tasks against tasks; below 0, what one task learns is what another one unlearns."""
    names = [style.plain(name, 30) for name in info.tasks]
    figure = _heat(names, names, info.values)
    where = "in all they share" if info.address == WHOLE else f"in {style.plain(info.address, 40)}"
    title = f"Gradients of tasks {where}: nothing was measured"
    if info.worst is not None:
        one, other, value = info.worst
        word = "pull against each other" if value < 0 else "do not pull against each other"
        title = (
            f"{style.plain(one, 24)} and {style.plain(other, 24)} {word} {where} at step {info.step:,}: "
            f"cosine {value:.2f} (measured)"
        )
    figure.update_layout(**style.layout(title, height=150 + 60 * len(names)))
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category")
    return figure


@dataclass(frozen=True)
class PairsInfo:
    """The cosine of every pair (columns) at every component (rows, in the order given) at one step."""

    step: int
    components: tuple[str, ...]
    pairs: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    def table(self) -> pd.DataFrame:
        """Return a row for each component and pair."""
        rows = [
            (self.step, component, pair, value)
            for component, line in zip(self.components, self.values, strict=True)
            for pair, value in zip(self.pairs, line, strict=True)
            if value is not None
        ]
        return pd.DataFrame(rows, columns=["step", "component", "pair", "cosine"])


def pairs_info(found: Cosines, order: Sequence[str] = (), step: int | None = None) -> PairsInfo:
    """Return components beside each other, those that ``order`` names (paths of ids); without it all, by name.

    Where the repeats of a component are told apart, what was measured over all of them is left out.
    """
    steps = found.steps()
    at = step if step is not None else (steps[-1] if steps else 0)
    there = [
        address for address in found.values if address != WHOLE and at in found.values[address]
    ]
    ranks = {path: rank for rank, path in enumerate(order)}
    single = {_over_repeats(path) for path in there if path != _over_repeats(path)}
    named = [path for path in there if path not in single]
    named = [path for path in named if not order or _over_repeats(path) in ranks]
    places = {path: _place(path, ranks) for path in named}
    rows = sorted(named, key=places.__getitem__)
    pairs = [
        (first, second) for place, second in enumerate(found.tasks) for first in found.tasks[:place]
    ]
    return PairsInfo(
        at,
        tuple(rows),
        tuple(f"{first} · {second}" for first, second in pairs),
        tuple(tuple(found.values[row][at].get(pair) for pair in pairs) for row in rows),
    )


def _over_repeats(path: str) -> str:
    return ".".join(step for step in path.split(".") if not step.isdigit())


def _place(path: str, ranks: Mapping[str, int]) -> tuple[tuple[int, ...], str]:
    """Return what sorts a path: where its outermost group stands, then its repeats, then its own place."""
    here = _over_repeats(path)
    outermost = here.split(".")[0]
    group = min((r for p, r in ranks.items() if p.split(".")[0] == outermost), default=0)
    repeats = [int(step) for step in path.split(".") if step.isdigit()]
    return (group, *repeats, ranks.get(here, 0)), path


def pairs_plot(info: PairsInfo) -> go.Figure:
    """Draw components against pairs of tasks."""
    names = [style.plain(name) for name in info.components]
    figure = _heat([style.plain(pair, 40) for pair in info.pairs], names, info.values)
    against = [
        name
        for name, line in zip(info.components, info.values, strict=True)
        if any(value is not None and value < 0 for value in line)
    ]
    title = "Tasks' gradients by component: nothing was measured"
    if info.components:
        title = (
            f"Tasks pull against each other in {len(against)} of {len(info.components)} shared parts at step "
            f"{info.step:,} (measured)"
        )
    figure.update_layout(**style.layout(title, height=max(220, 22 * len(names) + 150)))
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category")
    return figure


def _heat(
    columns: Sequence[str], rows: Sequence[str], values: Sequence[Sequence[float | None]]
) -> go.Figure:
    """Draw cosines, from -1 to 1."""
    return go.Figure(
        go.Heatmap(
            z=[list(line) for line in values],
            x=list(columns),
            y=list(rows),
            zmin=-1,
            zmax=1,
            text=[["" if v is None else f"{v:.2f}" for v in line] for line in values],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}<br>cosine %{z:.3f}<extra></extra>",
            hoverongaps=False,
            colorscale=_SCALE,
            colorbar={"title": {"text": "cosine", "side": "right"}, "thickness": 12},
        )
    )
