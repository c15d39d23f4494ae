"""Time by component of a trace: bars of forward and backward, and a map of the tree of modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, time_unit

Measure = Literal["device", "host"]
Grouping = Literal["path", "class"]
_MOST = 24
_NUMBER = re.compile(r"_\d+$")
PHASES = {
    "optimizer": "Optimiser",
    "communication": "Communication",
    "data loader": "Data loading",
    "other": "Cannot be attributed",
}
_PHASE_COLOURS = {
    "optimizer": style.SERIES_COLOURS[4],
    "communication": style.SERIES_COLOURS[3],
    "data loader": style.SERIES_COLOURS[6],
    "other": style.OTHER_COLOUR,
}


@dataclass(frozen=True)
class ComponentRow:
    """A component, a class of them, or a phase: its own time in µs, and how much of that is backward."""

    label: str
    kind: str
    calls: int
    own_us: float
    backward_us: float


@dataclass(frozen=True)
class ComponentsInfo:
    """Components with the largest own time, those that are smaller together, and the phases; times in µs.

    ``attributed`` is the share that belongs to modules and ranges, 0 to 1, None where there is no time.
    """

    rows: tuple[ComponentRow, ...]
    measure: Measure
    attributed: float | None
    total_us: float


def components_info(
    table: pd.DataFrame,
    measure: Measure,
    grouping: Grouping = "path",
    depth: int | None = None,
) -> ComponentsInfo:
    """Return the components of a report's table ``components``.

    Args:
        table: the report's table.
        measure: time on the device or on the host.
        grouping: each path by itself, or all modules of one class together.
        depth: where given, what lies deeper counts for what encloses it at this depth.
    """
    own, backward = f"{measure}_us", f"{measure}_backward_us"
    parts = table[table["kind"] != "phase"]
    if grouping == "class":
        label = parts["path"].map(lambda path: _NUMBER.sub("", path.rpartition("/")[2]))
    elif depth is not None:
        label = parts["path"].map(lambda path: "/".join(path.split("/")[:depth]))
    else:
        label = parts["path"]
    sums = (
        parts.assign(label=label)
        .groupby("label", sort=False)[["calls", own, backward]]
        .sum()
        .sort_values(own, ascending=False, kind="stable")
    )
    sums = sums[sums[own] > 0]
    rows = [
        ComponentRow(
            str(name), "component", int(row["calls"]), float(row[own]), float(row[backward])
        )
        for name, row in sums.head(_MOST).iterrows()
    ]
    if len(sums) > _MOST:
        rest = sums.iloc[_MOST:]
        small = f"{len(rest)} smaller ones"
        rows.append(
            ComponentRow(
                small,
                "rest",
                int(rest["calls"].sum()),
                *(float(rest[x].sum()) for x in (own, backward)),
            )
        )
    attributed_us = float(sums[own].sum())
    phases = table[table["kind"] == "phase"]
    for name, us in zip(phases["path"], phases[own], strict=True):
        if us > 0:
            rows.append(ComponentRow(str(name), "phase", 0, float(us), 0.0))
    total = attributed_us + float(phases[own].sum())
    return ComponentsInfo(tuple(rows), measure, attributed_us / total if total else None, total)


def components_plot(info: ComponentsInfo) -> go.Figure:
    """Draw a bar a component, split into forward and backward; phases and what nobody owns come last."""
    divisor, unit = time_unit(max((row.own_us for row in info.rows), default=0.0))
    labels = [
        PHASES.get(row.label, row.label) if row.kind == "phase" else _ending(row.label)
        for row in info.rows
    ]
    words = tuple(
        f"{style.plain(row.label, 160)}<br>{format_seconds(row.own_us / 1e6)}, "
        f"{100 * row.own_us / (info.total_us or 1):.1f} %"
        for row in info.rows
    )
    colours = [
        _PHASE_COLOURS.get(row.label, style.OTHER_COLOUR) if row.kind == "phase" else "#4c78dd"
        for row in info.rows
    ]
    kinds = [
        Bars(
            "forward, and what has no direction",
            tuple((row.own_us - row.backward_us) / divisor for row in info.rows),
            colours,
            words,
        )
    ]
    if any(row.backward_us for row in info.rows):
        kinds.append(
            Bars(
                "backward",
                tuple(row.backward_us / divisor for row in info.rows),
                "#9db7f2",
                words,
            )
        )
    share = "nothing to share out" if info.attributed is None else f"{100 * info.attributed:.1f} %"
    place = "device" if info.measure == "device" else "host"
    return bars_plot(
        labels,
        kinds,
        f"{share} of the time on the {place} belongs to a component (measured)",
        f"own time on the {place}, all steps, {unit}",
    )


def readable_depth(table: pd.DataFrame, measure: Measure) -> int:
    """Return the deepest level at which all components of a report's table fit into one picture; at least 1."""
    parts = table[(table["kind"] != "phase") & (table[f"{measure}_us"] > 0)]
    paths = [path.split("/") for path in parts["path"]]
    deepest = max(map(len, paths), default=1)
    for depth in range(deepest, 1, -1):
        if len({tuple(path[:depth]) for path in paths}) <= _MOST:
            return depth
    return 1


@dataclass(frozen=True)
class TreeInfo:
    """The tree of components as a map: ids, labels, ids of what encloses each, and own times in µs.

    ``deepest`` is how many levels there are; what is smaller than a thousandth of all is summed up in what encloses it.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    parents: tuple[str, ...]
    own_us: tuple[float, ...]
    phases: tuple[bool, ...]
    measure: Measure


def tree_info(table: pd.DataFrame, measure: Measure, smallest: float = 1e-3) -> TreeInfo:
    """Return the tree of a report's table ``components``; what cannot be attributed is a leaf of it."""
    own = dict(zip(table["path"], table[f"{measure}_us"].astype(float), strict=True))
    phase = set(table.loc[table["kind"] == "phase", "path"])
    total = sum(own.values())
    with_below = dict.fromkeys(own, 0.0)
    for path, us in own.items():
        at = path
        while at:
            with_below[at] = with_below.get(at, 0.0) + us
            at = at.rpartition("/")[0] if path not in phase else ""
    kept = {path for path, us in with_below.items() if us > smallest * total or path in phase}
    values = dict.fromkeys(kept, 0.0)
    for path, us in own.items():
        at = path
        while at and at not in kept:
            at = at.rpartition("/")[0]
        if at:
            values[at] += us
    order = sorted(path for path in kept if with_below[path] > 0)
    return TreeInfo(
        tuple(order),
        tuple(PHASES.get(p, p) if p in phase else p.rpartition("/")[2] for p in order),
        tuple("" if p in phase else p.rpartition("/")[0] for p in order),
        tuple(values[p] for p in order),
        tuple(p in phase for p in order),
        measure,
    )


def tree_plot(info: TreeInfo) -> go.Figure:
    """Draw the tree as a map whose areas are times; a click goes into a component."""
    divisor, unit = time_unit(max(info.own_us, default=0.0))
    totals = dict(zip(info.ids, info.own_us, strict=True))
    for path in sorted(info.ids, key=lambda path: -path.count("/")):
        above = info.parents[info.ids.index(path)]
        if above:
            totals[above] += totals[path]
    tops = [path for path, above in zip(info.ids, info.parents, strict=True) if not above]
    colour_of = {path: style.series_colour(at) for at, path in enumerate(_second(info, tops))}
    figure = go.Figure(
        go.Treemap(
            ids=list(info.ids),
            labels=[style.plain(label, 40) for label in info.labels],
            parents=list(info.parents),
            values=[totals[path] / divisor for path in info.ids],
            branchvalues="total",
            marker={
                "colors": [
                    _PHASE_COLOURS.get(path, style.OTHER_COLOUR)
                    if phase
                    else _colour(path, colour_of)
                    for path, phase in zip(info.ids, info.phases, strict=True)
                ],
                "line": {"width": 1},
            },
            customdata=[style.plain(path, 160) for path in info.ids],
            hovertemplate=f"%{{customdata}}<br>%{{value:.4~g}} {unit}, %{{percentRoot:.1%}}<extra></extra>",
            texttemplate="%{label}<br>%{percentRoot:.1%}",
            tiling={"pad": 2},
            maxdepth=5,
            pathbar={"visible": True},
        )
    )
    place = "device" if info.measure == "device" else "host"
    figure.update_layout(
        **style.layout(f"Areas are time on the {place}; click to go in (measured)", height=460)
    )
    figure.update_layout(margin={"l": 4, "r": 4, "t": 56, "b": 4})
    return figure


def _second(info: TreeInfo, tops: list[str]) -> list[str]:
    """Return the components among which colours are given out: the first level that has more than one."""
    level = [path for path in tops if not info.phases[info.ids.index(path)]]
    while len(level) == 1:
        below = [p for p, above in zip(info.ids, info.parents, strict=True) if above == level[0]]
        if not below:
            break
        level = below
    return level


def _colour(path: str, colour_of: dict[str, str]) -> str:
    while path:
        if path in colour_of:
            return colour_of[path]
        path = path.rpartition("/")[0]
    return style.NEUTRAL


def _ending(path: str, letters: int = 52) -> str:
    """Return the end of a path, which tells more than its beginning, as text for an axis."""
    line = " ".join(path.split())
    return style.plain(line if len(line) <= letters else "…" + line[-letters + 1 :], letters)
