"""Where the time of each step of a trace went, by kind of work; and how well its devices were used."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, time_unit

TITLES = {
    "kernel": "Kernels",
    "memcpy": "Copies",
    "memset": "Fills",
    "communication": "Communication",
    "runtime": "Starting kernels",
    "data_loader": "Data loading",
    "operator": "Operators on the host",
    "other": "Neither",
}
COLOURS = {
    "kernel": style.SERIES_COLOURS[0],
    "memcpy": style.SERIES_COLOURS[5],
    "memset": "#7fc4d4",
    "communication": style.SERIES_COLOURS[3],
    "runtime": style.SERIES_COLOURS[4],
    "data_loader": style.SERIES_COLOURS[6],
    "operator": style.SERIES_COLOURS[2],
    "other": style.OTHER_COLOUR,
}
"""One colour for each kind of work, in every picture of a trace."""
_MOST = 80


@dataclass(frozen=True)
class StepsInfo:
    """Steps by name, and the time of each in every kind of work, in ``unit``; ``left_out`` steps are not drawn."""

    steps: tuple[str, ...]
    times: dict[str, tuple[float, ...]]
    unit: str
    left_out: int

    @property
    def shares(self) -> dict[str, float]:
        """Share of all time by kind of work, 0 to 1."""
        total = sum(map(sum, self.times.values()))
        return {kind: sum(times) / total if total else 0.0 for kind, times in self.times.items()}


def steps_info(table: pd.DataFrame) -> StepsInfo:
    """Return the steps of a report's table ``steps``; kinds of work without any time are left out."""
    shown = table.head(_MOST)
    divisor, unit = time_unit(float(shown["duration_us"].max()))
    times = {
        kind: tuple((shown[f"kind_{kind}_us"] / divisor).tolist())
        for kind in TITLES
        if float(shown[f"kind_{kind}_us"].sum()) > 0
    }
    return StepsInfo(tuple(map(str, shown["step"])), times, unit, len(table) - len(shown))


def steps_plot(info: StepsInfo) -> go.Figure:
    """Draw a standing bar a step, stacked by kind of work."""
    figure = go.Figure()
    for kind, times in info.times.items():
        figure.add_trace(
            go.Bar(
                x=list(range(len(info.steps))),
                y=list(times),
                name=TITLES[kind],
                marker={"color": COLOURS[kind]},
                customdata=[style.plain(step) for step in info.steps],
                hovertemplate=f"step %{{customdata}}<br>{TITLES[kind]}: %{{y:.4~g}} {info.unit}<extra></extra>",
            )
        )
    shares = info.shares
    most = max(shares, key=lambda kind: shares[kind], default="other")
    every = max(1, len(info.steps) // 20)
    figure.update_layout(
        **style.layout(
            f"{TITLES[most]}: {100 * shares.get(most, 0):.0f} % of the time of a step (measured)",
            barmode="stack",
            bargap=0.35,
            height=340,
            xaxis={
                "title": {"text": "step"},
                "tickmode": "array",
                "tickvals": list(range(0, len(info.steps), every)),
                "ticktext": [style.plain(step, 12) for step in info.steps[::every]],
            },
            yaxis={"title": {"text": f"time, {info.unit}"}, "rangemode": "tozero"},
            legend={"orientation": "v", "x": 1.01, "y": 1, "title": {"text": ""}},
        )
    )
    return figure


USES = {
    "busy": "A kernel ran",
    "sm_efficiency": "Multiprocessors filled",
    "occupancy": "Occupancy achieved",
    "matrix_cores": "Kernels on tensor or matrix cores",
}


@dataclass(frozen=True)
class UseInfo:
    """Shares of one device in %, by the keys of ``USES``; None where the trace does not tell."""

    device: int
    shares: dict[str, float | None]

    @property
    def untold(self) -> tuple[str, ...]:
        """What the trace does not tell."""
        return tuple(USES[name] for name, share in self.shares.items() if share is None)


def use_info(table: pd.DataFrame) -> tuple[UseInfo, ...]:
    """Return how each device of a report's table ``device_use`` was used."""
    found = []
    for row in table.to_dict("records"):
        shares: dict[str, float | None] = {}
        for name in USES:
            value = row.get(name)
            if value is None or pd.isna(value):
                shares[name] = None
            else:
                shares[name] = float(value) * (1 if name == "occupancy" else 100)
        found.append(UseInfo(int(row["device"]), shares))
    return tuple(found)


def use_plot(info: tuple[UseInfo, ...]) -> go.Figure:
    """Draw a bar for each share that is known, of every device."""
    labels, values, words = [], [], []
    for device in info:
        for name, share in device.shares.items():
            if share is not None:
                prefix = f"device {device.device}: " if len(info) > 1 else ""
                labels.append(f"{prefix}{USES[name]}")
                values.append(share)
                words.append(f"{labels[-1]}: {share:.1f} %")
    busy = [device.shares["busy"] or 0.0 for device in info]
    title = f"A kernel ran {min(busy):.0f} % of the time (measured)"
    if len(busy) > 1:
        title = f"Kernels ran {min(busy):.0f} to {max(busy):.0f} % of the time (measured)"
    return bars_plot(
        labels,
        [Bars("share", tuple(values), style.SERIES_COLOURS[0], tuple(words))],
        title,
        "share of the time of all steps",
        percent=True,
    )
