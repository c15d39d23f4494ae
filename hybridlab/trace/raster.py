"""When each component or storage is read and written, and whether row by row: the picture of memory over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hybridlab.trace.access import Access, accesses
from hybridlab.trace.stream import OpStream

KINDS = ("read", "read strided", "write", "write strided")
By = Literal["component", "storage"]


@dataclass(frozen=True)
class Raster:
    """Bytes by row, time bin and kind of access.

    ``bytes`` has the shape (rows, bins, kinds), kinds as in ``KINDS``. ``starts`` are the first operator of each bin,
    or its first microsecond where ``unit`` is ``us``. ``numbers`` are the storages of the rows, empty by component.
    """

    rows: tuple[str, ...]
    starts: np.ndarray[Any, Any]
    bytes: np.ndarray[Any, Any]
    unit: Literal["operator", "us"]
    numbers: tuple[int, ...] = ()


def raster(
    stream: OpStream,
    by: By = "component",
    *,
    bins: int = 200,
    most_rows: int = 200,
    every: Sequence[Access] | None = None,
) -> Raster:
    """Return who is accessed when; time is measured where the stream is, else counted in operators.

    By storage, the ``most_rows`` with the most bytes are shown, in the order in which they were made, called by what
    they hold. ``every`` are the stream's accesses, where somebody has them already.
    """
    every = list(accesses(stream)) if every is None else every
    keys: list[Any] = [
        access.component if by == "component" else access.storage for access in every
    ]
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
    if by == "component":
        return Raster(tuple(order), edges[:-1], found, unit)
    titles = contents(stream, every)
    return Raster(tuple(titles[i] for i in order), edges[:-1], found, unit, tuple(order))


def contents(stream: OpStream, every: Sequence[Access]) -> dict[int, str]:
    """Return what each storage that is accessed holds, in words; no two are the same.

    What is there before the step has its name. Else it is who made it, the operator that wrote it first, its shape then
    and its category: ``stage.0.attn: softmax 8×4×64×64, kept for backward``.
    """
    storages = stream.storages.select(["name", "category", "component"]).to_pylist()
    first: dict[int, Access] = {}
    for access in every:
        known = first.get(access.storage)
        if known is None or (access.write and not known.write):
            first[access.storage] = access
    titles = {number: _title(storages[number], access) for number, access in first.items()}
    seen: Counter[str] = Counter()
    for number in sorted(titles):
        seen[titles[number]] += 1
        if seen[titles[number]] > 1:
            titles[number] += f" #{seen[titles[number]]}"
    return titles


def _title(row: dict[str, Any], access: Access) -> str:
    if row["name"]:
        return f"{row['name']}, {row['category']}"
    shape = "×".join(map(str, access.shape)) or "one number"
    made = f"{access.op} {shape}" if access.write else shape
    return f"{row['component']}: {made}, {row['category']}"


def _times(stream: OpStream) -> tuple[np.ndarray[Any, Any], Literal["operator", "us"]]:
    measured = stream.numbers("start_us")
    if len(measured) and np.isfinite(measured).all():
        return measured, "us"
    return np.arange(len(stream), dtype=float), "operator"
