"""The op stream: the one account of what a model does, predicted or measured; two Arrow tables that go to Parquet.

``ops`` has a row for each operator that moves data, in running order; views and bare allocations have none.
``storages`` has a row for each piece of memory that operators read or write. A tick counts allocations, frees and
operators: an operator runs at its ``tick``, a storage is there from ``born`` until before ``died`` (-1: beyond the
end).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybridlab.errors import Problem, RunError

Source = Literal["predicted", "measured"]
PHASES = ("forward", "backward", "optimiser")
_WORD = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = pa.list_(pa.int64())
OPS = pa.schema(
    [
        ("step", pa.int32()),
        ("tick", pa.int64()),
        ("phase", _WORD),
        ("component", _WORD),
        ("op", _WORD),
        ("flops", pa.int64()),
        ("bytes_read", pa.int64()),
        ("bytes_written", pa.int64()),
        ("inputs", _NUMBERS),
        ("outputs", _NUMBERS),
        ("input_bytes", _NUMBERS),
        ("output_bytes", _NUMBERS),
        ("input_shapes", pa.list_(_NUMBERS)),
        ("input_strides", pa.list_(_NUMBERS)),
        ("output_shapes", pa.list_(_NUMBERS)),
        ("output_strides", pa.list_(_NUMBERS)),
        ("input_dtypes", pa.list_(pa.string())),
        ("output_dtypes", pa.list_(pa.string())),
        ("arguments", pa.string()),
        ("pointwise", pa.bool_()),
        ("seeded", pa.bool_()),
        ("saved_bytes", pa.int64()),
        ("start_us", pa.float64()),
        ("dur_us", pa.float64()),
        ("kernels", pa.list_(pa.string())),
        ("kernel_streams", _NUMBERS),
        ("kernel_starts_us", pa.list_(pa.float64())),
        ("kernel_us", pa.list_(pa.float64())),
    ]
)
"""``inputs`` and ``outputs`` are rows of ``storages``; bytes, shapes and strides (in elements) are those of the tensors
seen in them. ``arguments`` are what is not a tensor. ``saved_bytes`` are newly kept for backward, weights aside.
``kernels`` are what an operator started on a device in a measured run, copies and fills among them, with their streams,
starts (from the start of the step) and lengths; null where nothing ran on a device."""
KERNELS = ("kernels", "kernel_streams", "kernel_starts_us", "kernel_us")
"""Columns of what ran on a device; streams that were saved before there were any are read without."""
STORAGES = pa.schema(
    [
        ("bytes", pa.int64()),
        ("category", _WORD),
        ("component", _WORD),
        ("name", pa.string()),
        ("born", pa.int64()),
        ("died", pa.int64()),
        ("saved", pa.bool_()),
    ]
)
"""``component`` is who made it; ``name`` is the path of a weight or buffer, and of nothing else."""
_FILES = {"ops": OPS, "storages": STORAGES}


@dataclass(frozen=True)
class OpStream:
    """What one or several steps of a model do, operator by operator.

    ``source`` says whether it was predicted or measured; ``notes`` say what it rests on, such as experts with an
    expected load. A measured stream has ``start_us`` (from the start of its step) and ``dur_us``.
    """

    ops: pa.Table
    storages: pa.Table
    source: Source
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of operators."""
        return int(self.ops.num_rows)

    @functools.cached_property
    def flops(self) -> int:
        """Floating-point operations of all rows."""
        return int(pc.sum(self.ops["flops"]).as_py() or 0)

    @functools.cached_property
    def peak_bytes(self) -> int:
        """The most bytes that are there at once."""
        return int(live_bytes(self)[1].max(initial=0))

    def where(self, **wanted: str | int) -> OpStream:
        """Return the rows whose columns have these values, such as ``phase="backward"``; storages stay."""
        ops = self.ops
        for column, value in wanted.items():
            ops = ops.filter(pc.equal(ops[column], pa.scalar(value)))
        return OpStream(ops, self.storages, self.source, self.notes)

    def strings(self, column: str) -> list[str]:
        """Return a column of names, row by row."""
        return list(self.ops[column].to_pylist())

    def numbers(self, column: str) -> np.ndarray[Any, Any]:
        """Return a column of numbers, row by row; NaN where there is none."""
        return np.asarray(self.ops[column].to_numpy())

    def save(self, folder: Path) -> None:
        """Write ``ops.parquet`` and ``storages.parquet`` into a folder, each replaced whole."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {b"hybridlab": json.dumps({"source": self.source, "notes": self.notes}).encode()}
        for name in _FILES:
            table = getattr(self, name).replace_schema_metadata(about)
            draft = folder / f".{name}.parquet.tmp"
            pq.write_table(table, draft, compression="zstd")
            draft.replace(folder / f"{name}.parquet")

    @classmethod
    def load(cls, folder: Path) -> OpStream:
        """Read what ``save`` wrote.

        Raises:
            RunError: the files are not there, are damaged, or are not those of an op stream.
        """
        tables = {
            name: _read(folder / f"{name}.parquet", schema) for name, schema in _FILES.items()
        }
        try:
            about = json.loads((tables["ops"].schema.metadata or {})[b"hybridlab"])
            source, notes = about["source"], tuple(map(str, about["notes"]))
        except (KeyError, ValueError, TypeError):
            source, notes = "", ()
        if source not in ("predicted", "measured"):
            raise RunError(
                Problem(str(folder), "is not an op stream", "source: predicted or measured")
            )
        return cls(tables["ops"], tables["storages"], source, notes)


def stream_of(
    ops: dict[str, list[Any]],
    storages: dict[str, list[Any]],
    source: Source,
    notes: Sequence[str] = (),
) -> OpStream:
    """Return the stream of columns in Python lists."""
    return OpStream(
        pa.table({field.name: pa.array(ops[field.name], field.type) for field in OPS}, schema=OPS),
        pa.table(
            {field.name: pa.array(storages[field.name], field.type) for field in STORAGES},
            schema=STORAGES,
        ),
        source,
        tuple(notes),
    )


def concatenate(streams: Sequence[OpStream]) -> OpStream:
    """Return streams one after the other as one; weights and buffers of one name are one storage.

    Raises:
        ValueError: there is none, or some are measured and some predicted.
    """
    if not streams or len({stream.source for stream in streams}) != 1:
        raise ValueError("streams of one source, at least one, can be put together")
    named: dict[tuple[str, int], int] = {}
    storages: list[dict[str, Any]] = []
    ops: list[pa.Table] = []
    ticks = steps = 0
    for stream in streams:
        rows = stream.storages.to_pylist()
        place = []
        for row in rows:
            known = named.get((row["name"], row["bytes"])) if row["name"] else None
            if known is None:
                known = len(storages)
                row["born"] += ticks
                row["died"] += ticks if row["died"] >= 0 else 0
                storages.append(row)
                if row["name"]:
                    named[row["name"], row["bytes"]] = known
            place.append(known)
        ops.append(_shifted(stream, np.array(place or [0]), ticks, steps))
        ticks = int(pc.max(ops[-1]["tick"]).as_py() or ticks) + 1 if len(stream) else ticks
        ticks = max([ticks, *(row["died"] for row in storages)]) + 1
        steps = int(pc.max(ops[-1]["step"]).as_py()) + 1 if len(stream) else steps
        for row in (
            storages
        ):  # what a step leaves behind without a name is the next one's under another number
            if row["died"] < 0 and not row["name"] and stream is not streams[-1]:
                row["died"] = ticks - 1
    notes = dict.fromkeys(note for stream in streams for note in stream.notes)
    columns = {name: [row[name] for row in storages] for name in STORAGES.names}
    table = pa.table({f.name: pa.array(columns[f.name], f.type) for f in STORAGES}, schema=STORAGES)
    whole = pa.concat_tables(ops).unify_dictionaries()
    return OpStream(whole, table, streams[0].source, tuple(notes))


def _shifted(stream: OpStream, place: np.ndarray[Any, Any], ticks: int, steps: int) -> pa.Table:
    ops = stream.ops.combine_chunks()
    first = int(pc.min(ops["step"]).as_py() or 0) if len(stream) else 0
    changed = {
        "step": pc.add(ops["step"], pa.scalar(steps - first, pa.int32())),
        "tick": pc.add(ops["tick"], ticks),
    }
    for name in ("inputs", "outputs"):
        values = ops[name].to_pylist()
        changed[name] = pa.array([[int(place[i]) for i in row] for row in values], _NUMBERS)
    for name, column in changed.items():
        ops = ops.set_column(ops.schema.get_field_index(name), OPS.field(name), column)
    return ops


def live_bytes(stream: OpStream) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the ticks at which memory changes, and the bytes that are there from each on."""
    columns = ("bytes", "born", "died")
    return live_at(*(np.asarray(stream.storages[name].to_numpy()) for name in columns))


def live_at(
    sizes: np.ndarray[Any, Any], born: np.ndarray[Any, Any], died: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the same of storages' bytes and lives; one that ``died`` at -1 stays."""
    gone = died >= 0
    ticks = np.concatenate([born, died[gone]])
    changes = np.concatenate([sizes, -sizes[gone]])
    order = np.lexsort((changes, ticks))
    ticks, total = ticks[order], np.cumsum(changes[order])
    if not len(ticks):
        return ticks, total
    last = np.append(np.flatnonzero(np.diff(ticks)), len(ticks) - 1)
    return ticks[last], total[last]


def _read(file: Path, schema: pa.Schema) -> pa.Table:
    if not file.is_file():
        raise RunError(Problem(str(file), "is not there", "a file of an op stream"))
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:120]
        raise RunError(Problem(str(file), f"cannot be read: {why}", "a Parquet file")) from None
    for name in KERNELS:
        if name in schema.names and name not in table.schema.names:
            table = table.append_column(
                schema.field(name), pa.nulls(table.num_rows, schema.field(name).type)
            )
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        what = Problem(str(file), "is not of an op stream", ", ".join(schema.names))
        raise RunError(Problem(what.path, what.message, f"columns {', '.join(missing)}"))
    try:
        return table.select(schema.names).cast(schema.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as error:
        why = str(error).splitlines()[0][:120]
        raise RunError(Problem(str(file), f"has columns of other types: {why}")) from None
