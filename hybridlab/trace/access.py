"""Every read and write of a stream in order: who touches which storage, how many bytes, and in what pattern."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hybridlab.trace.stream import OpStream


@dataclass(frozen=True)
class Access:
    """One operator reads or writes one storage."""

    row: int
    tick: int
    component: str
    phase: str
    op: str
    storage: int
    bytes: int
    write: bool
    contiguous: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def accesses(stream: OpStream) -> Iterator[Access]:
    """Yield the reads of each operator, then its writes."""
    columns = stream.ops.select(
        [
            "tick",
            "component",
            "phase",
            "op",
            "inputs",
            "input_bytes",
            "input_shapes",
            "input_strides",
            "outputs",
            "output_bytes",
            "output_shapes",
            "output_strides",
        ]
    ).to_pylist()
    for row, op in enumerate(columns):
        for side, write in (("input", False), ("output", True)):
            for storage, size, shape, strides in zip(
                op[f"{side}s"],
                op[f"{side}_bytes"],
                op[f"{side}_shapes"],
                op[f"{side}_strides"],
                strict=True,
            ):
                yield Access(
                    row,
                    op["tick"],
                    op["component"],
                    op["phase"],
                    op["op"],
                    storage,
                    touched(size, shape, strides),
                    write,
                    contiguous(shape, strides),
                    tuple(shape),
                    tuple(strides),
                )


def touched(size: int, shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return the distinct bytes of a tensor of ``size`` bytes: an expanded dimension repeats the same ones."""
    repeats = math.prod(n for n, stride in zip(shape, strides, strict=True) if stride == 0 and n)
    return size // repeats


def contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Say whether a tensor lies in one piece, row by row."""
    step = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != step:
            return n == 0
        step *= n
    return True
