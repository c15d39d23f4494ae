"""A table of small hybrids that were really trained, every design of a grid: samplers on real quality.

The space is the table's grid, so that whatever a sampler proposes has its answer at once, and the exact front is known
by looking at every design. A row is one training: the choices of its design, task and seed, the accuracies it came to,
the mean loss at its end, and what the design is predicted to cost (``predicted_…``, from the op stream and ``predict``,
at the training's batch and length). ``measured_cpu_s`` is processor time that was taken while other work ran, and says
little. ``benchmarks/trained_table.py`` trained them; how, stands in the file itself, beside the rows.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybridlab.architecture.document import loads
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError
from hybridlab.search.landscape import (
    Array,
    Outcome,
    designs_around,
    objectives_named,
    signs,
    within,
)
from hybridlab.search.pareto import hypervolume, non_dominated
from hybridlab.search.space import Choice, Codes, Design, Space

FILE = Path(__file__).with_name("trained_table.parquet")
TASKS = ("mqar", "digits_sequence")
METRIC = "val_accuracy"
"""What a trial tells: the mean over the table's seeds, on the validation split."""
COSTS = {
    "params": "parameters",
    "flops_forward": "FLOPs",
    "flops_step": "FLOPs",
    "peak_bytes": "bytes",
    "activation_bytes": "bytes",
    "state_bytes": "bytes",
}
"""What is predicted of every design; ``state_bytes``: what generating keeps of one sequence at the task's length."""
PREDICTED_COLUMNS = tuple(f"predicted_{name}" for name in COSTS)
_ABOUT = b"hybridlab"


@dataclass(frozen=True, eq=False)
class TrainedTable:
    """Trainings, a row each, and how they came about."""

    frame: pd.DataFrame
    about: dict[str, Any]

    @cached_property
    def space(self) -> Space:
        """The grid: every design of it was trained on every task with every seed."""
        return Space(
            tuple(
                Choice(one["name"], tuple(one["values"]), one["group"])
                for one in self.about["choices"]
            )
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of each design's trainings."""
        return tuple(self.about["seeds"])

    def places(self, codes_NP: Codes) -> Codes:
        """Return where designs stand among all of the space, (N)."""
        return np.asarray(np.ravel_multi_index(tuple(codes_NP.T), tuple(self.space.sizes)))

    def column(self, task: str, name: str) -> Array:
        """Return a column's mean over the seeds for every design of the space, by its place, (N).

        NaN where a training of a design diverged.
        """
        rows = self.frame[self.frame["task"] == task]
        found = np.full((len(self.seeds), self.space.size), np.nan)
        for seed, part in rows.groupby("seed"):
            values = part[name].to_numpy(dtype=np.float64)
            found[self.seeds.index(int(str(seed))), self._places_of(part)] = values
        return np.asarray(found.mean(axis=0))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every design's architecture as YAML, by its place."""
        rows = self.frame.drop_duplicates(self._names)
        return tuple(rows["architecture"].iloc[np.argsort(self._places_of(rows))])

    def _places_of(self, rows: pd.DataFrame) -> Codes:
        columns = [rows[name].tolist() for name in self._names]
        designs = [
            dict(zip(self._names, values, strict=True)) for values in zip(*columns, strict=True)
        ]
        return self.places(self.space.codes(designs))

    @property
    def _names(self) -> list[str]:
        return [choice.name for choice in self.space.choices]


class TableLandscape:
    """The table on one task: what is predicted is priced, the accuracy only told by a trial."""

    pool = 1_200
    instant = True

    def __init__(
        self,
        table: TrainedTable,
        task: str = TASKS[0],
        objectives: Sequence[str] = (),
        name: str = "trained-table",
        limits: dict[str, float] | None = None,
    ) -> None:
        """Open the table on a task; objectives are the accuracy and peak memory where none are named.

        Raises:
            SpecError: an objective is of nothing that the table holds, or there is only one.
        """
        self.table, self.task, self.name = table, task, name
        self.limits = dict(limits or {})
        wanted = tuple(objectives) or (METRIC, "peak_bytes")
        self.objectives = objectives_named(wanted, METRIC, large=True, predicted=COSTS)

    @property
    def fingerprint(self) -> str:
        """The grid, the task, and every design's accuracy."""
        about = json.dumps([self.table.about["choices"], self.table.about["training"][self.task]])
        told = self.table.column(self.task, METRIC).tobytes()
        return hashlib.sha256(about.encode() + told).hexdigest()[:16]

    @property
    def space(self) -> Space:
        """The table's grid."""
        return self.table.space

    @cached_property
    def values(self) -> Array:
        """The objectives of every design of the space, by its place, (N, M); NaN where a training diverged."""
        columns = [f"predicted_{o.name}" if o.predicted else o.name for o in self.objectives]
        return np.column_stack([self.table.column(self.task, column) for column in columns])

    def repaired(self, codes_NP: Codes) -> Codes:
        """Return designs as they are: all were trained."""
        return codes_NP

    def prices(self, codes_NP: Codes) -> Array:
        """Return the predicted objectives, and NaN for the accuracy."""
        values: Array = self.values[self.table.places(codes_NP)]
        values[:, [not one.predicted for one in self.objectives]] = np.nan
        return values

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Return what the design's trainings came to, as a mean over the table's seeds."""
        values = self.values[self.table.places(row_P[None])[0]]
        if np.isnan(values).any():
            return Outcome(reason="a training of this design diverged")
        return Outcome(tuple(map(float, values)))

    def hand_designs(self) -> list[Design]:
        """Return the grid's own architecture and those around it, as a search that trains would begin with."""
        return designs_around(self.space, self.table.about["own_design"])

    def architecture(self, design: Design) -> Architecture:
        """Return a design as it was trained, without what the task supplies."""
        return loads(self.table.texts[int(self.table.places(self.space.codes([design]))[0])])

    @cached_property
    def _exact(self) -> tuple[Array, Codes]:
        """The exact front as values to be made small, sorted by the first, and the designs' places."""
        small = self.values * signs(self)
        at = np.flatnonzero(non_dominated(small))
        at = at[np.argsort(small[at, 0], kind="stable")]
        return small[at], at

    def true_front(self) -> Array:
        """Return the exact front of the whole table, without limits: values of the objectives, (K, M)."""
        return np.asarray(self._exact[0] * signs(self), dtype=np.float64)

    @property
    def front_designs(self) -> Codes:
        """The designs of the exact front, in its order, (K, P)."""
        sizes = tuple(self.space.sizes)
        return np.column_stack(np.unravel_index(self._exact[1], sizes)).astype(np.int64)

    def exact(self) -> tuple[Array, float]:
        """Return the worst of the table, signs turned, and the true front's hypervolume within the limits."""
        turned = signs(self)
        worst = np.nanmax(self.values * turned, axis=0)
        front = self.true_front()
        front = front[within(self, front)]
        return worst, hypervolume(front * turned, worst) if len(front) else 0.0

    def unlimited(self) -> TableLandscape:
        """Return the same without limits."""
        names = [one.name for one in self.objectives]
        return TableLandscape(self.table, self.task, names, self.name)


def write_table(frame: pd.DataFrame, about: dict[str, Any], file: Path = FILE) -> None:
    """Write trainings, and how they came about, as one Parquet file, replaced whole."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    pq.write_table(table, draft, compression="zstd")
    draft.replace(file)


def read_table(file: Path = FILE) -> TrainedTable:
    """Return the trainings of a file that ``write_table`` wrote.

    Raises:
        RunError: the file is not there, is none of ours, or leaves out a training of its grid.
    """
    try:
        read = pq.read_table(file)
        about = json.loads((read.schema.metadata or {})[_ABOUT])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:120]
        what = f"cannot be read as a table of trainings: {why}"
        raise RunError(Problem(str(file), what, "what benchmarks/trained_table.py wrote")) from None
    table = TrainedTable(read.replace_schema_metadata(None).to_pandas(), about)
    wanted = table.space.size * len(table.seeds) * len(about["training"])
    there = len(table.frame.drop_duplicates([*table._names, "task", "seed"]))
    if there != wanted or len(table.frame) != wanted:
        raise RunError(
            Problem(str(file), "does not hold every training once", f"{wanted:,}", f"{there:,}")
        )
    return table


@functools.cache
def shipped_table() -> TrainedTable:
    """Return the table that ships with HybridLab, read once.

    Raises:
        RunError: the installation is not complete.
    """
    return read_table()
