"""How memory is used in a step: who reads and writes when, how far apart in bytes, and what is handed to whom."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style

Access = Literal["all", "read", "write", "strided"]
ACCESSES: dict[Access, str] = {
    "all": "Read and written",
    "read": "Read",
    "write": "Written",
    "strided": "Strided alone",
}
_KINDS: dict[str, str] = {
    "read_bytes": "read",
    "read_strided_bytes": "read, strided",
    "write_bytes": "written",
    "write_strided_bytes": "written, strided",
}
_TAKEN: dict[Access, tuple[str, ...]] = {
    "all": tuple(_KINDS),
    "read": ("read_bytes", "read_strided_bytes"),
    "write": ("write_bytes", "write_strided_bytes"),
    "strided": ("read_strided_bytes", "write_strided_bytes"),
}
_LEVEL_COLOURS = {"L1": "#2fa36b", "L2": "#23a6bd", "L3": "#4c78dd", "memory": "#e5484d"}
_SCALE = [
    [0.0, "rgba(76,120,221,0.25)"],
    [0.5, "#4c78dd"],
    [0.8, "#d64f8a"],
    [1.0, "#f08a24"],
]
_MOST_COMPONENTS = 40
By = Literal["component", "storage"]
_LETTERS: dict[By, int] = {"component": 60, "storage": 72}
MARKED = 0.25
"""A hand-over of which a quarter is copied carries its share in the matrix."""


@dataclass(frozen=True)
class RasterInfo:
    """Bytes by component or storage (rows) and time (columns), None where nothing is accessed.

    ``words`` tell each cell; ``left_out`` rows have fewer bytes than those shown.
    """

    by: By
    rows: tuple[str, ...]
    starts: tuple[float, ...]
    unit: Literal["us", "operator"]
    bytes: tuple[tuple[float | None, ...], ...]
    words: tuple[tuple[str, ...], ...]
    strided_share: float
    left_out: int = 0


def raster_info(
    raster: pd.DataFrame,
    access: Access = "all",
    unit: Literal["us", "operator"] = "operator",
    most: int | None = None,
) -> RasterInfo:
    """Return the picture of a report's table ``raster`` or ``storage_raster``, of the ``most`` rows with most bytes."""
    by: By = "storage" if "storage" in raster.columns else "component"
    mine = raster[raster["unit"] == unit]
    if mine.empty:
        return RasterInfo(by, (), (), unit, (), (), 0.0)
    sizes = mine[list(_KINDS)].sum(axis=1).groupby(mine[by].astype(str), sort=False).sum()
    shown = set(sizes.sort_values(ascending=False, kind="stable").head(most or len(sizes)).index)
    names = [name for name in sizes.index if name in shown]
    mine = mine[mine[by].isin(shown)]
    width = float(mine["width"].iloc[0])
    columns = np.rint(mine["start"].to_numpy(float) / width).astype(int)
    rows = mine[by].astype(str).map({name: i for i, name in enumerate(names)})
    shape = len(names), int(columns.max()) + 1
    cells = {}
    for kind in _KINDS:
        cells[kind] = np.zeros(shape)
        cells[kind][rows.to_numpy(), columns] = mine[kind].to_numpy(float)
    asked = sum(cells[kind] for kind in _TAKEN[access])
    every = sum(cells.values())
    strided = cells["read_strided_bytes"] + cells["write_strided_bytes"]
    words = [
        [
            "<br>".join(
                f"{title}: {format_bytes(cells[kind][row, column])}"
                for kind, title in _KINDS.items()
                if cells[kind][row, column]
            )
            for column in range(shape[1])
        ]
        for row in range(shape[0])
    ]
    return RasterInfo(
        by,
        tuple(names),
        tuple((np.arange(shape[1]) * width).tolist()),
        unit,
        tuple(tuple(size or None for size in line) for line in np.asarray(asked).tolist()),
        tuple(map(tuple, words)),
        float(np.sum(strided) / max(1.0, float(np.sum(every)))),
        len(sizes) - len(names),
    )


def raster_plot(info: RasterInfo) -> go.Figure:
    """Draw components or storages against time, the colour by bytes on a logarithmic scale."""
    scale = 1e-3 if info.unit == "us" else 1.0
    names = [style.plain(name, _LETTERS[info.by]) for name in info.rows]
    places = list(range(len(names)))  # two names may begin alike, and are two rows all the same
    figure = go.Figure(
        go.Heatmap(
            z=[
                [None if size is None else math.log10(max(1.0, size)) for size in line]
                for line in info.bytes
            ],
            x=[start * scale for start in info.starts],
            y=places,
            text=info.words,
            customdata=[[name] * len(info.starts) for name in names],
            hovertemplate="%{customdata} at %{x:.4g}<br>%{text}<extra></extra>",
            hoverongaps=False,
            colorscale=_SCALE,
            colorbar=_bar([size for line in info.bytes for size in line if size]),
        )
    )
    title = "No accesses were followed"
    if info.rows:
        which = "the bytes shown" if info.left_out else "all bytes"
        title = f"{100 * info.strided_share:.0f} % of {which} are accessed strided (measured)"
    if info.left_out:
        title += f", {info.left_out:,} {info.by}s with fewer are left out"
    figure.update_layout(**style.layout(title, height=max(300, 22 * len(names) + 130)))
    figure.update_xaxes(
        title_text="time from the start of the step (ms)"
        if info.unit == "us"
        else "operators, in running order",
        showgrid=False,
    )
    figure.update_yaxes(
        autorange="reversed", automargin=True, showgrid=False, tickvals=places, ticktext=names
    )
    return figure


def _bar(sizes: list[float]) -> dict[str, object]:
    """Return a colour bar that tells powers of ten in bytes."""
    high = math.ceil(math.log10(max(sizes, default=10.0)))
    low = math.floor(math.log10(max(1.0, min(sizes, default=1.0))))
    powers = list(range(low, high + 1, max(1, (high - low) // 5)))
    return {
        "title": {"text": "bytes"},
        "tickvals": powers,
        "ticktext": [format_bytes(10**power) for power in powers],
        "thickness": 12,
    }


@dataclass(frozen=True)
class ReuseInfo:
    """Bytes that are used again after how many distinct other ones; ``edges`` end the bins, powers of two."""

    edges: tuple[int, ...]
    levels: tuple[str, ...]
    bytes: tuple[tuple[float, ...], ...]
    """A row a level."""
    caches: tuple[tuple[str, int], ...]
    first_bytes: float


def reuse_info(reuse: pd.DataFrame, caches: pd.DataFrame, component: str = "") -> ReuseInfo:
    """Return the picture of a report's tables ``reuse`` and ``caches``, of one component where it is named."""
    mine = reuse[reuse["component"] == component] if component else reuse
    again = mine[mine["most_bytes"].notna()]
    sizes = tuple(
        (str(name), int(size)) for name, size in zip(caches["level"], caches["bytes"], strict=True)
    )
    known = [name for name, _ in sizes] + ["memory"]
    table = again.pivot_table(index="level", columns="most_bytes", values="bytes", aggfunc="sum")
    table = table.reindex([name for name in known if name in table.index]).fillna(0.0)
    return ReuseInfo(
        tuple(int(edge) for edge in table.columns),
        tuple(map(str, table.index)),
        tuple(map(tuple, table.to_numpy().tolist())),
        sizes,
        float(mine.loc[mine["most_bytes"].isna(), "bytes"].sum()),
    )


def reuse_plot(info: ReuseInfo) -> go.Figure:
    """Draw a bar for each power of two, coloured by the memory that holds so much, with lines at the caches."""
    figure = go.Figure()
    for level, sizes in zip(info.levels, info.bytes, strict=True):
        figure.add_trace(
            go.Bar(
                x=[math.log2(edge) - 0.5 for edge in info.edges],
                y=[size / 2**20 for size in sizes],
                name=f"from {level}",
                marker={"color": _LEVEL_COLOURS.get(level, style.NEUTRAL)},
                customdata=[
                    [format_bytes(size), format_bytes(edge)]
                    for size, edge in zip(sizes, info.edges, strict=True)
                ],
                hovertemplate="%{customdata[0]} used again after at most %{customdata[1]}"
                "<extra>%{fullData.name}</extra>",
            )
        )
    for name, size in info.caches:
        figure.add_vline(
            x=math.log2(size),
            line={"color": style.NEUTRAL, "dash": "dash"},
            annotation_text=f"{name} {format_bytes(size)}",
            annotation_position="top",
        )
    figure.update_layout(
        **style.layout(_reuse_title(info), height=400, barmode="stack", bargap=0.05)
    )
    figure.update_layout(margin={"t": 72})
    low, high = _ends(info)
    places = list(range(low, high + 1, 2))
    figure.update_xaxes(
        title_text="distinct bytes between two uses of the same memory",
        range=[low, high],
        tickvals=places,
        ticktext=[format_bytes(2**place) for place in places],
    )
    figure.update_yaxes(title_text="accessed (MiB)", rangemode="tozero")
    return figure


def _ends(info: ReuseInfo) -> tuple[int, int]:
    powers = [math.log2(edge) for edge in info.edges] + [math.log2(size) for _, size in info.caches]
    low, high = (min(powers), max(powers)) if powers else (10.0, 20.0)
    low = max(low, high - 26)
    return math.floor(low) - 1, math.ceil(high) + 1


def _reuse_title(info: ReuseInfo) -> str:
    total = sum(map(sum, info.bytes))
    if not total:
        return "Nothing is used twice"
    sums = dict(zip(info.levels, map(sum, info.bytes), strict=True))
    far = 100 * sums.get("memory", 0.0) / total
    return (
        f"{far:.0f} % of the bytes that are used again come from beyond every cache, "
        "if caches keep what was used last (modelled on the measured accesses)"
    )


@dataclass(frozen=True)
class MatrixInfo:
    """Bytes from writers (rows) to readers (columns), None where nothing passes; ``marks`` are shares copied."""

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    bytes: tuple[tuple[float | None, ...], ...]
    marks: tuple[tuple[str, ...], ...]
    words: tuple[tuple[str, ...], ...]
    heaviest: tuple[str, str, float] | None
    left_out: int


def matrix_info(hand_overs: pd.DataFrame, order: Sequence[str] = ()) -> MatrixInfo:
    """Return the picture of a report's table ``hand_overs``: the components that pass on the most.

    ``order`` is that in which components run; what is not in it comes last.
    """
    ranks = {path: place for place, path in enumerate(order)}
    weights = pd.concat(
        [hand_overs.groupby(side, sort=False)["read_bytes"].sum() for side in ("writer", "reader")]
    )
    sums = weights.groupby(level=0, sort=False).sum()
    chosen = set(sums.sort_values(ascending=False).head(_MOST_COMPONENTS).index)
    mine = hand_overs[hand_overs["writer"].isin(chosen) & hand_overs["reader"].isin(chosen)]
    writers, readers = (
        sorted(set(mine[side]), key=lambda path: (ranks.get(path, len(ranks)), path))
        for side in ("writer", "reader")
    )
    cells = {(row["writer"], row["reader"]): row for row in mine.to_dict("records")}
    sizes: list[tuple[float | None, ...]] = []
    marks, words = [], []
    for writer in writers:
        rows = [cells.get((writer, reader)) for reader in readers]
        sizes.append(tuple(None if row is None else float(row["read_bytes"]) for row in rows))
        marks.append(tuple("" if row is None else _mark(row) for row in rows))
        words.append(tuple("" if row is None else _passes(row) for row in rows))
    first = max(cells.values(), key=lambda row: float(row["read_bytes"]), default=None)
    return MatrixInfo(
        tuple(writers),
        tuple(readers),
        tuple(sizes),
        tuple(marks),
        tuple(words),
        None
        if first is None
        else (str(first["writer"]), str(first["reader"]), float(first["read_bytes"])),
        len(sums) - len(chosen),
    )


def _mark(row: Mapping[Hashable, Any]) -> str:
    share = row["copied_bytes"] / max(1, row["read_bytes"])
    return f"{100 * share:.0f} %" if share >= MARKED else ""


def _passes(row: Mapping[Hashable, Any]) -> str:
    sizes = {
        "read": row["read_bytes"],
        "of it distinct": row["distinct_bytes"],
        "copied": row["copied_bytes"],
        "cast to another number format": row["cast_bytes"],
        "laid out in another order": row["relaid_bytes"],
    }
    return "<br>".join(f"{name}: {format_bytes(size)}" for name, size in sizes.items() if size)


def matrix_plot(info: MatrixInfo) -> go.Figure:
    """Draw who hands how much to whom, the share that is copied written where it is much."""
    figure = go.Figure(
        go.Heatmap(
            z=[
                [None if size is None else math.log10(max(1.0, size)) for size in line]
                for line in info.bytes
            ],
            x=[style.plain(name, 32) for name in info.readers],
            y=[style.plain(name, 32) for name in info.writers],
            text=info.marks,
            texttemplate="%{text}",
            customdata=info.words,
            hovertemplate="%{y} → %{x}<br>%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=_SCALE,
            colorbar=_bar([size for line in info.bytes for size in line if size]),
            xgap=1,
            ygap=1,
        )
    )
    title = "Nothing passes between components"
    if info.heaviest is not None:
        writer, reader, size = info.heaviest
        title = f"{style.plain(reader)} reads the most of another: {format_bytes(size)} of {style.plain(writer)}"
    title += f" ({info.left_out} components left out)" if info.left_out else " (measured)"
    figure.update_layout(**style.layout(title, height=max(340, 24 * len(info.writers) + 220)))
    figure.update_xaxes(title_text="read by", tickangle=-40, automargin=True, showgrid=False)
    figure.update_yaxes(
        title_text="written by", autorange="reversed", automargin=True, showgrid=False
    )
    return figure
