"""Bytes that are there over time, by category and by component, and what the peak is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hybridlab.trace.stream import OpStream, live_bytes

Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Live:
    """Bytes from each tick on; ``parts`` are the same by category or component and add up to ``total_bytes``."""

    ticks: Floats
    total_bytes: Floats
    parts: dict[str, Floats]
    peak_bytes: int
    peak_tick: int


def live(stream: OpStream, by: Literal["category", "component"] = "category") -> Live:
    """Return the bytes that are there at every change, apart by category or by the component that made them."""
    ticks, total = live_bytes(stream)
    if not len(ticks):
        return Live(ticks, total, {}, 0, 0)
    names = np.array(stream.storages[by].to_pylist(), dtype=object)
    born, died, sizes = (
        np.asarray(stream.storages[name].to_numpy()) for name in ("born", "died", "bytes")
    )
    parts = {}
    for name in dict.fromkeys(names):
        mine = names == name
        change = np.zeros(len(ticks), dtype=np.int64)
        np.add.at(change, np.searchsorted(ticks, born[mine]), sizes[mine])
        gone = mine & (died >= 0)
        np.add.at(change, np.searchsorted(ticks, died[gone]), -sizes[gone])
        parts[str(name)] = np.cumsum(change)
    worst = int(np.argmax(total))
    return Live(ticks, total, parts, int(total[worst]), int(ticks[worst]))


def at_peak(stream: OpStream) -> pa.Table:
    """Return what is there at the peak, largest first: category, component and bytes."""
    tick = live(stream).peak_tick
    sums: dict[tuple[str, str], int] = {}
    for row in stream.storages.to_pylist():
        if row["born"] <= tick and (row["died"] < 0 or row["died"] > tick):
            key = row["category"], row["component"]
            sums[key] = sums.get(key, 0) + row["bytes"]
    rows = sorted(sums.items(), key=lambda item: -item[1])
    return pa.table(
        {
            "category": pa.array([key[0] for key, _ in rows], pa.string()),
            "component": pa.array([key[1] for key, _ in rows], pa.string()),
            "bytes": pa.array([size for _, size in rows], pa.int64()),
        }
    )
