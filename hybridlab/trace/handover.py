"""What components hand to each other: who reads what whom wrote, and what is copied, cast or laid out anew for it."""

from __future__ import annotations

from dataclasses import dataclass

from hybridlab.trace.access import Access, accesses
from hybridlab.trace.stream import OpStream

COPIES = frozenset({"clone", "copy_", "_to_copy", "contiguous"})
"""Operators that only move numbers."""


@dataclass
class HandOver:
    """What one component reads of another's writing, within or across phases.

    ``read_bytes`` counts every read; ``distinct_bytes`` each written value once. ``copied_bytes`` are read by operators
    that only move numbers, ``cast_bytes`` by those of them that change the number format, ``relaid_bytes`` are read in
    another order than they lie in: with other strides than rows one after the other where they were written so, or the
    other way round.
    """

    writer: str
    reader: str
    reads: int = 0
    read_bytes: int = 0
    distinct_bytes: int = 0
    copied_bytes: int = 0
    cast_bytes: int = 0
    relaid_bytes: int = 0


def hand_overs(stream: OpStream, *, within: bool = False) -> list[HandOver]:
    """Return what crosses from component to component, most bytes first; with ``within`` also what stays in one.

    What was there before the step counts as written by whoever owns it: a weight by its component.
    """
    owners = stream.storages["component"].to_pylist()
    writer: dict[int, Access] = {}
    seen: set[tuple[int, int, str]] = set()
    version: dict[int, int] = {}
    found: dict[tuple[str, str], HandOver] = {}
    cast = _casts(stream)
    for access in accesses(stream):
        storage = access.storage
        if access.write:
            writer[storage] = access
            version[storage] = version.get(storage, 0) + 1
            continue
        last = writer.get(storage)
        by = last.component if last is not None else owners[storage]
        if by == access.component and not within:
            continue
        entry = found.setdefault((by, access.component), HandOver(by, access.component))
        entry.reads += 1
        entry.read_bytes += access.bytes
        once = storage, version.get(storage, 0), access.component
        if once not in seen:
            seen.add(once)
            entry.distinct_bytes += access.bytes
        if access.op in COPIES:
            entry.copied_bytes += access.bytes
            entry.cast_bytes += access.bytes if access.row in cast else 0
        if last is not None and last.contiguous != access.contiguous:
            entry.relaid_bytes += access.bytes
    return sorted(found.values(), key=lambda entry: -entry.read_bytes)


@dataclass(frozen=True)
class Moved:
    """What operators that only move numbers read in one component of what another one wrote, or the same one.

    ``rows`` are those of the operators.
    """

    writer: str
    reader: str
    copied_bytes: int
    cast_bytes: int
    rows: tuple[int, ...]


def moves(stream: OpStream) -> list[Moved]:
    """Return who copies or casts what whom wrote, in the order of the stream."""
    owners = stream.storages["component"].to_pylist()
    writer: dict[int, str] = {}
    read: dict[tuple[str, str], list[Access]] = {}
    for access in accesses(stream):
        if access.write:
            writer[access.storage] = access.component
        elif access.op in COPIES:
            by = writer.get(access.storage, owners[access.storage])
            read.setdefault((by, access.component), []).append(access)
    cast = _casts(stream)
    return [
        Moved(
            *pair,
            sum(one.bytes for one in them),
            sum(one.bytes for one in them if one.row in cast),
            tuple(dict.fromkeys(one.row for one in them)),
        )
        for pair, them in read.items()
    ]


def _casts(stream: OpStream) -> set[int]:
    """Return the rows whose operator gives another number format than it reads."""
    pairs = zip(
        stream.ops["input_dtypes"].to_pylist(),
        stream.ops["output_dtypes"].to_pylist(),
        strict=True,
    )
    return {row for row, (given, made) in enumerate(pairs) if made and made[0] not in given[-1:]}
