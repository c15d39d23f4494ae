"""How a forward pass grows with length and batch: its time, apart by component."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style

_MOST_SERIES = 7
_INNER_REPEAT = re.compile(r"\.\d+(?=\.)")
OTHERS = "others"


@dataclass(frozen=True)
class SizesInfo:
    """A bar for each (length, batch), shortest and smallest first; a series for each component, the dearest first.

    Repeats of a component are one: ``stage.*.moe``.
    """

    sizes: tuple[tuple[int, int], ...]
    ms: tuple[float, ...]
    """Milliseconds of a pass without the profiler."""
    low_ms: tuple[float, ...]
    high_ms: tuple[float, ...]
    components: tuple[str, ...]
    part_ms: tuple[tuple[float, ...], ...]
    """A row a component: its share of each pass, in milliseconds of the pass without the profiler."""

    @property
    def growth(self) -> float | None:
        """How many times longer the longest pass takes than the shortest of equal batch; None of a single length."""
        batch = max((size[1] for size in self.sizes), default=0)
        mine = [ms for (_, each), ms in zip(self.sizes, self.ms, strict=True) if each == batch]
        return mine[-1] / mine[0] if len(mine) > 1 and mine[0] > 0 else None


def sizes_info(sizes: pd.DataFrame, components: pd.DataFrame) -> SizesInfo:
    """Return the picture of ``BySize.sizes`` and ``BySize.components``."""
    rows = sizes.sort_values(["length", "batch"])
    keys = list(
        zip(map(int, rows["length"].tolist()), map(int, rows["batch"].tolist()), strict=True)
    )
    whole = dict(zip(keys, rows["ms"], strict=True))
    together = components["component"].map(lambda path: _INNER_REPEAT.sub(".*", str(path)))
    shares = components.assign(component=together).pivot_table(
        index="component", columns=["length", "batch"], values="share", aggfunc="sum"
    )
    shares = shares.reindex(columns=pd.MultiIndex.from_tuples(keys)) if keys else shares
    parts = shares.fillna(0.0) * [whole[key] for key in keys]
    parts = parts.loc[parts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    shown = parts.iloc[:_MOST_SERIES]
    names = [str(name) for name in shown.index]
    values = [tuple(map(float, row)) for row in shown.to_numpy().tolist()]
    if len(parts) > _MOST_SERIES:
        names.append(OTHERS)
        values.append(tuple(map(float, parts.iloc[_MOST_SERIES:].sum().tolist())))
    return SizesInfo(
        tuple(keys),
        tuple(map(float, rows["ms"])),
        tuple(map(float, rows["low_ms"])),
        tuple(map(float, rows["high_ms"])),
        tuple(names),
        tuple(values),
    )


def sizes_plot(info: SizesInfo) -> go.Figure:
    """Draw a bar for each size, apart by component, with the interval of the whole pass."""
    names = [f"{length:,} × {batch:,}" for length, batch in info.sizes]
    figure = go.Figure()
    for place, (component, values) in enumerate(zip(info.components, info.part_ms, strict=True)):
        colour = style.OTHER_COLOUR if component == OTHERS else style.series_colour(place)
        figure.add_trace(
            go.Bar(
                x=names,
                y=values,
                name=style.plain(component),
                marker={"color": colour},
                text=[format_seconds(value / 1e3) for value in values],
                textposition="none",
                hovertemplate=f"{style.plain(component)}<br>%{{x}}: %{{text}}<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=names,
            y=info.ms,
            mode="markers",
            name="whole pass, median",
            marker={"color": style.NEUTRAL, "symbol": "line-ew-open", "size": 14},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [high - ms for high, ms in zip(info.high_ms, info.ms, strict=True)],
                "arrayminus": [ms - low for low, ms in zip(info.low_ms, info.ms, strict=True)],
                "color": style.NEUTRAL,
            },
            text=[format_seconds(ms / 1e3) for ms in info.ms],
            hovertemplate="%{x}: %{text} a pass<extra></extra>",
        )
    )
    title = "Time of a forward pass by length and batch (measured)"
    if info.growth is not None:
        lengths = [length for length, _ in info.sizes]
        times = max(lengths) / min(lengths)
        title = f"{times:.3g} times the length takes {info.growth:.3g} times the time (measured)"
    figure.update_layout(**style.layout(title, height=380, barmode="stack"))
    figure.update_yaxes(title_text="ms a pass", rangemode="tozero")
    figure.update_xaxes(title_text="length (positions) × batch (samples)", type="category")
    return figure
