"""When each piece of memory of a pass is needed: bytes, first and last use, and the least that any placement takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridlab.trace.recorder import FORWARD, KEPT
from hybridlab.trace.stream import OpStream

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lifetimes:
    """Pieces of memory: ``bytes[i]`` are needed from operator ``first[i]`` to operator ``last[i]``, both included.

    What an operator reads and what it writes are there at once, so an input that is last read where an output is
    first written does not make room for it.
    """

    bytes: Numbers
    first: Numbers
    last: Numbers

    def __post_init__(self) -> None:
        """Check that the columns belong together.

        Raises:
            ValueError: they differ in length, bytes are negative, or a last use is before the first.
        """
        if not len(self.bytes) == len(self.first) == len(self.last):
            raise ValueError("bytes, first and last are of one length")
        if len(self) and (self.bytes.min() < 0 or (self.last < self.first).any()):
            raise ValueError("bytes are not negative, and the last use is not before the first")

    @classmethod
    def of(cls, rows: list[tuple[int, int, int]]) -> Lifetimes:
        """Return the lifetimes of rows of bytes, first and last."""
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2])

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self.bytes)

    def live_bytes(self) -> tuple[Numbers, Numbers]:
        """Return the operators at which pieces come, and the bytes that are needed at each."""
        moments = np.unique(self.first)
        change = np.zeros(len(moments) + 1, dtype=np.int64)
        np.add.at(change, np.searchsorted(moments, self.first), self.bytes)
        np.subtract.at(change, np.searchsorted(moments, self.last, side="right"), self.bytes)
        return moments, np.cumsum(change)[:-1]

    @property
    def bound_bytes(self) -> int:
        """The largest sum of bytes needed at once: no placement takes less."""
        return int(self.live_bytes()[1].max(initial=0))

    @property
    def separate_bytes(self) -> int:
        """What all pieces take where each has a buffer of its own."""
        return int(self.bytes.sum())


def lifetimes(stream: OpStream) -> Lifetimes:
    """Return the lifetimes of what the forward of a stream makes, predicted or measured, in rows of its forward.

    What autograd keeps for backward lasts to the end, so the stream of a training step gives the arena of its forward.
    Weights, the batch and what kernels hold for themselves are no part of it.
    """
    forward = stream.where(phase="forward")
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    columns = (forward.ops[name].to_pylist() for name in ("inputs", "outputs"))
    for row, touched in enumerate(zip(*columns, strict=True)):
        for storage in (*touched[0], *touched[1]):
            first.setdefault(storage, row)
            last[storage] = row
    rows = []
    about = stream.storages.select(["bytes", "category", "saved"]).to_pylist()
    for storage, born in first.items():
        mine = about[storage]
        if mine["category"] in (FORWARD, KEPT) and mine["bytes"]:
            end = len(forward) - 1 if mine["saved"] else last[storage]
            rows.append((mine["bytes"], born, end))
    return Lifetimes.of(rows)
