"""One plain step as arrays: who makes, keeps and reads every piece of memory, and what each operator does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybridlab.trace.recorder import FORWARD, KEPT, UPDATE
from hybridlab.trace.stream import OpStream, live_at

Ints = np.ndarray[Any, Any]
AHEAD, BACK, LAST, THERE = 0, 1, 2, -1
"""Phases: forward, backward, update; and what is there before the step."""
_PHASES = {"forward": AHEAD, "backward": BACK, "optimiser": LAST}


@dataclass(frozen=True)
class Storages:
    """Pieces of memory, one a row: who made it (the place of an instruction, or their count for all else) and when.

    A piece is there from ``born`` until before ``died`` (-1: beyond the end); ``phase`` is when it was made.
    """

    bytes: Ints
    born: Ints
    died: Ints
    maker: Ints
    phase: Ints

    def live(self) -> tuple[Ints, Ints]:
        """Return the ticks at which memory changes, and the bytes that are there from each on."""
        return live_at(self.bytes, self.born, self.died)


@dataclass(frozen=True)
class Rows:
    """Operators in running order: tick, the place of who is at work, phase, FLOPs, and bytes read and written."""

    tick: Ints
    who: Ints
    phase: Ints
    flops: Ints
    moved: Ints


@dataclass(frozen=True)
class PlainStep:
    """A step in which nothing is computed again, of a program whose instructions have these names and paths.

    ``packs`` are (tick, place, storage) of everything that autograd keeps, with -1 for what was there before and is not
    counted; ``reads`` are the storages of what each instruction reads; ``held`` says why an instruction cannot be
    computed again, by place.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    storages: Storages
    rows: Rows
    packs: Sequence[tuple[int, int, int]]
    reads: Sequence[tuple[int, ...]]
    held: dict[int, str] = field(default_factory=dict)


def storages_of(stream: OpStream, count: int) -> Storages:
    """Return the storages of a stream whose components are the places of ``count`` instructions, as text."""
    table = stream.storages
    sizes, born, died = (np.asarray(table[name].to_numpy()) for name in ("bytes", "born", "died"))
    category = np.array(table["category"].to_pylist(), dtype=object)
    phase = np.full(len(sizes), BACK)
    phase[np.isin(category, (FORWARD, KEPT))] = AHEAD
    phase[category == UPDATE] = LAST
    phase[born == 0] = THERE
    return Storages(sizes, born, died, _places(table["component"].to_pylist(), count), phase)


def rows_of(stream: OpStream, count: int) -> Rows:
    """Return the operators of such a stream."""
    ops = stream.ops
    tick, flops, taken, given = (
        np.asarray(ops[name].to_numpy())
        for name in ("tick", "flops", "bytes_read", "bytes_written")
    )
    phase = np.array([_PHASES[name] for name in ops["phase"].to_pylist()], dtype=int)
    return Rows(tick, _places(ops["component"].to_pylist(), count), phase, flops, taken + given)


def _places(names: Sequence[str], count: int) -> Ints:
    """Return the instruction's place of each name; what is nobody's counts as the loss, the one behind the last."""
    return np.array([int(name) if name.isdigit() else count for name in names], dtype=int)
