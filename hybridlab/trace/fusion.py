"""What fusing neighbours would save: values read again and again, and values written only for the next operator."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from hybridlab.trace.stream import OpStream


@dataclass(frozen=True)
class Fusable:
    """Operators in a row, each element by element, of one component and phase.

    ``saved_bytes`` is what one kernel for all of them need not move: reads of what it has already, and results that
    nobody else reads.
    """

    first_row: int
    rows: int
    component: str
    phase: str
    ops: tuple[str, ...]
    moved_bytes: int
    saved_bytes: int


def fusable(stream: OpStream, *, least_bytes: int = 1, also: Collection[str] = ()) -> list[Fusable]:
    """Return the chains of element-wise operators whose fusion saves traffic, most bytes first.

    ``also`` names operators that count as such, as reductions do for a compiler.
    """
    ops = stream.ops.to_pylist()
    read_last: dict[int, int] = {}
    for row, op in enumerate(ops):
        for storage in op["inputs"]:
            read_last[storage] = row
    died = stream.storages["died"].to_pylist()
    found = [_judged(ops, start, stop, read_last, died) for start, stop in _chains(ops, also)]
    worth = [item for item in found if item.saved_bytes >= least_bytes]
    return sorted(worth, key=lambda item: -item.saved_bytes)


def _chains(ops: list[dict[str, Any]], also: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the runs of at least two element-wise operators of one component, phase and step."""
    fits = [bool(op["pointwise"]) or op["op"] in also for op in ops]
    start = 0
    for row in range(1, len(ops) + 1):
        together = row < len(ops) and all(
            ops[row][name] == ops[start][name] for name in ("component", "phase", "step")
        )
        if together and fits[row] and fits[start]:
            continue
        if row - start > 1:
            yield start, row
        start = row


def _judged(
    ops: list[dict[str, Any]], start: int, stop: int, read_last: dict[int, int], died: list[int]
) -> Fusable:
    chain = ops[start:stop]
    moved = sum(op["bytes_read"] + op["bytes_written"] for op in chain)
    reads: dict[int, int] = {}
    writes: dict[int, int] = {}
    for op in chain:
        for storage, size in zip(op["inputs"], op["input_bytes"], strict=True):
            if storage not in writes:
                reads[storage] = max(reads.get(storage, 0), size)
        for storage, size in zip(op["outputs"], op["output_bytes"], strict=True):
            writes[storage] = max(writes.get(storage, 0), size)
    leave = sum(
        size
        for storage, size in writes.items()
        if read_last.get(storage, -1) >= stop or died[storage] < 0
    )
    return Fusable(
        start,
        stop - start,
        chain[0]["component"],
        chain[0]["phase"],
        tuple(op["op"] for op in chain),
        moved,
        max(0, moved - sum(reads.values()) - leave),
    )
