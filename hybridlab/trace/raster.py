"""When each component or storage is read and written, and whether row by row: the picture of memory over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hybridlab.trace.access import accesses
from hybridlab.trace.stream import OpStream

KINDS = ("read", "read strided", "write", "write strided")


@dataclass(frozen=True)
class Raster:
    """Bytes by row, time bin and kind of access.

    ``bytes`` has the shape (rows, bins, kinds), kinds as in ``KINDS``. ``starts`` are the first operator of each bin,
    or its first microsecond where ``unit`` is ``us``.
    """

    rows: tuple[str, ...]
    starts: np.ndarray[Any, Any]
    bytes: np.ndarray[Any, Any]
    unit: Literal["operator", "us"]


def raster(
    stream: OpStream,
    by: Literal["component", "storage"] = "component",
    *,
    bins: int = 200,
    most_rows: int = 200,
) -> Raster:
    """Return who is accessed when; time is measured where the stream is, else counted in operators.

    By storage, the ``most_rows`` with the most bytes are shown, in the order in which they were made.
    """
    every = list(accesses(stream))
    storages = stream.storages.to_pylist()
    names = [row["component"] if by == "component" else i for i, row in enumerate(storages)]
    keys = [access.component if by == "component" else names[access.storage] for access in every]
    sums: dict[Any, int] = {}
    for key, access in zip(keys, every, strict=True):
        sums[key] = sums.get(key, 0) + access.bytes
    chosen = set(sorted(sums, key=lambda key: -sums[key])[:most_rows])
    order = [key for key in sums if key in chosen] if by == "component" else sorted(chosen)
    place = {key: index for index, key in enumerate(order)}
    times, unit = _times(stream)
    edges = np.linspace(0, max(float(times.max(initial=0)), 1.0), bins + 1)
    columns = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, bins - 1)
    found = np.zeros((len(order), bins, len(KINDS)), dtype=np.int64)
    for key, access in zip(keys, every, strict=True):
        if key in place:
            kind = 2 * access.write + (not access.contiguous)
            found[place[key], columns[access.row], kind] += access.bytes
    titles = tuple(order) if by == "component" else tuple(_title(i, storages[i]) for i in order)
    return Raster(titles, edges[:-1], found, unit)


def _times(stream: OpStream) -> tuple[np.ndarray[Any, Any], Literal["operator", "us"]]:
    measured = stream.numbers("start_us")
    if len(measured) and np.isfinite(measured).all():
        return measured, "us"
    return np.arange(len(stream), dtype=float), "operator"


def _title(number: int, row: dict[str, Any]) -> str:
    return row["name"] or f"{row['component']} #{number}"
