"""Where an architecture's parameters, operations and time go, component by component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybridlab.units import format_bytes, format_count, format_flops, format_seconds
from hybridlab.views import style

_MOST = 40
"""Bars of one figure; what is smaller is summed up in a last one."""


@dataclass(frozen=True)
class CostRow:
    """One component's cost for one batch; every repeat counts."""

    path: str
    use: str
    kind: str
    params: float
    flops: float
    activation_bytes: float
    ms: float


@dataclass(frozen=True)
class CostsInfo:
    """Costs in the order of the architecture, and whether they were predicted or measured."""

    rows: tuple[CostRow, ...]
    source: style.Source

    @property
    def dearest(self) -> CostRow | None:
        """The component that takes most of the time."""
        return max(self.rows, key=lambda row: row.ms, default=None)

    def table(self) -> pd.DataFrame:
        """Return the rows with units in their headings, for tables and downloads."""
        return pd.DataFrame(
            {
                "component": [row.path for row in self.rows],
                "use": [row.use for row in self.rows],
                "parameters": [int(row.params) for row in self.rows],
                "FLOPs (forward)": [int(row.flops) for row in self.rows],
                "activations (bytes)": [int(row.activation_bytes) for row in self.rows],
                f"time of a step (ms, {self.source})": [round(row.ms, 4) for row in self.rows],
            }
        )


def costs_info(
    components: Sequence[Mapping[str, Any]], source: style.Source = "predicted"
) -> CostsInfo:
    """Return the costs of a prediction's or a measurement's components."""
    rows = [
        CostRow(
            str(item["path"]),
            str(item["use"]),
            str(item.get("kind", "")),
            float(item["params"]),
            float(item["flops"]),
            float(item["activation_bytes"]),
            float(item["ms"]),
        )
        for item in components
    ]
    if len(rows) > _MOST:
        kept = sorted(range(len(rows)), key=lambda index: -rows[index].ms)[: _MOST - 1]
        small = [row for index, row in enumerate(rows) if index not in set(kept)]
        rows = [rows[index] for index in sorted(kept)]
        sums = [sum(getattr(row, name) for row in small) for name in _SUMMED]
        rows.append(CostRow(f"{len(small)} smaller ones", "", "", *sums))
    return CostsInfo(tuple(rows), source)


_SUMMED = ("params", "flops", "activation_bytes", "ms")


def costs_plot(info: CostsInfo) -> go.Figure:
    """Draw bars of parameters, operations, activations and time, one row a component."""
    panels: tuple[tuple[str, list[float], Callable[[float], str]], ...] = (
        ("Parameters", [row.params for row in info.rows], format_count),
        ("FLOPs", [row.flops for row in info.rows], format_flops),
        ("Activation bytes", [row.activation_bytes for row in info.rows], format_bytes),
        ("Step, ms", [row.ms for row in info.rows], lambda ms: format_seconds(ms / 1e3)),
    )
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=0.04)
    names = [row.path for row in info.rows]
    colours = [style.kind_colour(row.kind) for row in info.rows]
    for column, (title, values, written) in enumerate(panels, 1):
        figure.add_trace(
            go.Bar(
                x=values,
                y=names,
                orientation="h",
                name=title,
                marker={
                    "color": colours,
                    "pattern": {
                        "shape": style.BAR_PATTERN[info.source],
                        "size": 5,
                        "solidity": 0.35,
                    },
                },
                text=[written(value) for value in values],
                textposition="none",
                hovertemplate="%{y}<br>%{text}<extra></extra>",
                showlegend=False,
            ),
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text=title, nticks=3, row=1, col=column)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        **style.layout(_title(info), height=max(240, 22 * len(info.rows) + 120), bargap=0.3)
    )
    return figure


def _title(info: CostsInfo) -> str:
    dearest = info.dearest
    total = sum(row.ms for row in info.rows)
    if dearest is None or not total:
        return f"Cost by component ({info.source})"
    share = 100 * dearest.ms / total
    return f"{style.plain(dearest.path)} takes {share:.0f} % of the time ({info.source})"
