"""How inference grows with the input: time, memory and each component's share by length and batch, forward alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hybridlab.architecture.answering import answering
from hybridlab.architecture.model import GraphModel
from hybridlab.components.types import TensorKind
from hybridlab.errors import HybridLabError, Problem, RunError
from hybridlab.profiling.medians import median
from hybridlab.profiling.session import device_of, profiled, timed
from hybridlab.profiling.sweep import UNATTRIBUTED
from hybridlab.tasks.base import Task
from hybridlab.trace.step import TrainingStep

_ROUNDS, _MOST_POINTS = 5, 64
_LONGEST, _LARGEST = 1 << 17, 1 << 16
_POSITIONS = 1
"""The dimension of an input that counts positions, where it has one."""


@dataclass(frozen=True)
class BySize:
    """What was measured of a forward pass by length and batch, as two tables.

    ``sizes``: batch, length, ms (of a pass, median without the profiler), low_ms, high_ms, samples_per_s,
    positions_per_s, activation_bytes (at the peak of a pass, weights aside).
    ``components``: batch, length, component, ms (of a pass, under the profiler), share.
    ``notes`` say which sizes could not be run, and why.
    """

    sizes: pa.Table
    components: pa.Table
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the tables as lists of rows, JSON-ready, and the notes."""
        return {
            "sizes": self.sizes.to_pylist(),
            "components": self.components.to_pylist(),
            "notes": list(self.notes),
        }

    def save(self, folder: Path) -> None:
        """Write the tables as Parquet files ``size_*.parquet`` into a folder, each replaced whole."""
        folder.mkdir(parents=True, exist_ok=True)
        notes = pa.table({"note": pa.array(self.notes, pa.string())})
        tables = {"sizes": self.sizes, "components": self.components, "notes": notes}
        for name, table in tables.items():
            draft = folder / f".size_{name}.parquet.tmp"
            pq.write_table(table, draft)
            draft.replace(folder / f"size_{name}.parquet")


_SIZES = pa.schema(
    [
        ("batch", pa.int64()),
        ("length", pa.int64()),
        *((name, pa.float64()) for name in ("ms", "low_ms", "high_ms")),
        *((name, pa.float64()) for name in ("samples_per_s", "positions_per_s")),
        ("activation_bytes", pa.int64()),
    ]
)
_COMPONENTS = pa.schema(
    [
        ("batch", pa.int64()),
        ("length", pa.int64()),
        ("component", pa.string()),
        ("ms", pa.float64()),
        ("share", pa.float64()),
    ]
)


def usual_sizes(task: Task, batch: int) -> tuple[list[int], list[int]]:
    """Return lengths around a task's own and batches up to the training's; a single length where inputs have one."""
    lengths = sorted({max(1, task.length // 2), task.length, 2 * task.length})
    own = [task.length]
    return (lengths if _has_positions(task) else own), sorted({1, max(1, batch)})


@torch.no_grad()
def measure_sizes(
    model: GraphModel,
    task: Task,
    *,
    lengths: Sequence[int],
    batches: Sequence[int],
    rounds: int = _ROUNDS,
    on_size: Callable[[int], object] = lambda number: None,
) -> BySize:
    """Run a model forward on a task's test inputs, cut or repeated to each length and batch.

    Sizes that a component cannot read, such as more positions than it has weights for, are left out with a note.
    ``on_size`` hears the number of each size; what it raises ends it.

    Raises:
        RunError: a length or a batch is out of range, or there are too many.
    """
    _checked(lengths, batches)
    first = next(iter(task.evaluation(task.test_splits[0]))).inputs
    own = first.shape[_POSITIONS] if _has_positions(task) else task.length
    wanted = list(dict.fromkeys(lengths)) if _has_positions(task) else [own]
    device, notes = device_of(model), []
    if not _has_positions(task) and set(lengths) != {own}:
        notes.append("the inputs of this task have one size, so only the batch changes")
    sizes: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    points = [(batch, length) for length in wanted for batch in dict.fromkeys(batches)]
    with answering(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (batch, length) in enumerate(points):
            on_size(number)
            inputs = _resized(first, batch, length if _has_positions(task) else None).to(device)
            step = TrainingStep(model, (inputs,), None, None)
            try:
                times = median(timed(step, rounds, device))
                swept, memory, _ = profiled(step, 1, device, None, first=not number)
            except (RuntimeError, ValueError, IndexError, HybridLabError) as error:
                why = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
                notes.append(f"length {length}, batch {batch} cannot be run: {why}")
                continue
            peak = int(np.cumsum([size for _, size in memory] or [0]).max())
            sizes.append(
                {
                    "batch": batch,
                    "length": length,
                    "ms": times.value,
                    "low_ms": times.low,
                    "high_ms": times.high,
                    "samples_per_s": 1e3 * batch / times.value,
                    "positions_per_s": 1e3 * batch * length / times.value,
                    "activation_bytes": max(0, peak),
                }
            )
            parts += _parts(batch, length, swept.ns)
    return BySize(
        pa.Table.from_pylist(sizes, _SIZES),
        pa.Table.from_pylist(parts, _COMPONENTS),
        tuple(notes),
    )


def _checked(lengths: Sequence[int], batches: Sequence[int]) -> None:
    problems = [
        Problem(name, "is out of range", f"1 to {most:,}", str(value))
        for name, values, most in (("lengths", lengths, _LONGEST), ("batches", batches, _LARGEST))
        for value in values
        if not 1 <= value <= most
    ]
    count = len(set(lengths)) * len(set(batches))
    if not count or count > _MOST_POINTS:
        problems.append(
            Problem("lengths", "make with the batches", f"1 to {_MOST_POINTS} sizes", str(count))
        )
    if problems:
        raise RunError(problems)


def _has_positions(task: Task) -> bool:
    return task.input_type().kind in (TensorKind.TOKENS, TensorKind.SEQUENCE, TensorKind.SERIES)


def _resized(inputs: Tensor, batch: int, length: int | None) -> Tensor:
    """Return inputs with so many samples and positions, each taken again from the start where there are too few."""
    rows = torch.arange(batch) % len(inputs)
    if length is None:
        return inputs[rows]
    return inputs[rows][:, torch.arange(length) % inputs.shape[_POSITIONS]]


def _parts(batch: int, length: int, ns: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
    """Yield each component's milliseconds in a pass, whatever has no name left out."""
    total = max(1, sum(ns.values()))
    found: dict[str, int] = {}
    for (path, _), count in ns.items():
        if path != UNATTRIBUTED:
            found[path] = found.get(path, 0) + count
    for path, count in found.items():
        yield {
            "batch": batch,
            "length": length,
            "component": path,
            "ms": count / 1e6,
            "share": count / total,
        }
