"""Work that was done before, and work that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybridlab.trace.stream import OpStream


@dataclass(frozen=True)
class Repeated:
    """An operator that computed what an earlier one had computed from the same values."""

    row: int
    first_row: int
    component: str
    op: str
    flops: int
    bytes_moved: int


@dataclass(frozen=True)
class Dead:
    """An operator whose results nothing reads, and which do not outlive the stream."""

    row: int
    component: str
    op: str
    flops: int
    bytes_moved: int


def repeated(stream: OpStream) -> list[Repeated]:
    """Return operators that ran again on unchanged inputs with equal arguments; random ones are never the same.

    Filling and copying count where they read something; making zeros twice is not work worth telling.
    """
    version: dict[int, int] = {}
    first: dict[tuple[Any, ...], int] = {}
    found = []
    for row, op in enumerate(stream.ops.to_pylist()):
        shapes = [tuple(map(tuple, op[name])) for name in ("input_shapes", "input_strides")]
        values = tuple((storage, version.get(storage, 0)) for storage in op["inputs"])
        in_place = bool(set(op["inputs"]) & set(op["outputs"]))
        for storage in op["outputs"]:
            version[storage] = version.get(storage, 0) + 1
        if op["seeded"] or in_place or not values:
            continue
        key = (op["op"], op["arguments"], values, *shapes, op["step"])
        if key in first:
            moved = op["bytes_read"] + op["bytes_written"]
            found.append(Repeated(row, first[key], op["component"], op["op"], op["flops"], moved))
        else:
            first[key] = row
    return found


def dead(stream: OpStream) -> list[Dead]:
    """Return operators whose results are neither read afterwards nor there at the end."""
    ops = stream.ops.to_pylist()
    read_last: dict[int, int] = {}
    for row, op in enumerate(ops):
        for storage in op["inputs"]:
            read_last[storage] = row
    died = stream.storages["died"].to_pylist()
    return [
        Dead(row, op["component"], op["op"], op["flops"], op["bytes_read"] + op["bytes_written"])
        for row, op in enumerate(ops)
        if op["outputs"]
        and all(read_last.get(storage, -1) <= row for storage in op["outputs"])
        and all(died[storage] >= 0 for storage in op["outputs"])
        and not set(op["inputs"]) & set(op["outputs"])
    ]
