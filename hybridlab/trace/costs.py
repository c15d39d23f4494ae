"""What a stream costs, added up by any of its columns: component, phase, operator, step."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hybridlab.trace.stream import OpStream

_ROW = "row"
_SUMS = ("flops", "bytes_read", "bytes_written", "saved_bytes", "dur_us")


def costs(stream: OpStream, by: Sequence[str] = ("component",)) -> pa.Table:
    """Return one row for each value of the columns ``by``, in order of first appearance.

    Beside the sums of flops, bytes_read, bytes_written, saved_bytes and dur_us (null where nothing was measured) it has
    ``operators``, their number, and ``intensity``, FLOPs for each byte read or written.
    """
    keys = pa.table(
        {
            **{name: pc.cast(stream.ops[name], _plain(stream, name)) for name in by},
            **{name: stream.ops[name] for name in _SUMS},
            _ROW: pa.array(range(len(stream)), pa.int64()),
        }
    )
    sums = [*((name, "sum") for name in _SUMS), (_ROW, "min")]
    found = keys.group_by(list(by), use_threads=False).aggregate([*sums, ([], "count_all")])
    found = found.sort_by(f"{_ROW}_min").drop_columns([f"{_ROW}_min"])  # groups come in any order
    renamed = {f"{name}_sum": name for name in _SUMS} | {"count_all": "operators"}
    found = found.rename_columns([renamed.get(name, name) for name in found.column_names])
    moved = pc.add(found["bytes_read"], found["bytes_written"])
    some = pc.max_element_wise(moved, 1)
    return found.append_column(
        "intensity", pc.divide(pc.cast(found["flops"], pa.float64()), pc.cast(some, pa.float64()))
    )


def intensity(stream: OpStream) -> float:
    """Return FLOPs for each byte read or written, over the whole stream."""
    moved = pc.sum(pc.add(stream.ops["bytes_read"], stream.ops["bytes_written"])).as_py() or 0
    return stream.flops / max(1, moved)


def _plain(stream: OpStream, name: str) -> pa.DataType:
    kind = stream.ops.schema.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind
