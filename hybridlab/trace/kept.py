"""What is kept for backward: bytes by component, and how long they wait."""

from __future__ import annotations

import pyarrow as pa

from hybridlab.trace.stream import OpStream


def kept_for_backward(stream: OpStream) -> pa.Table:
    """Return the storages that autograd keeps, summed by who made them, most bytes first.

    Columns: component, bytes, storages, and ``byte_ticks``, bytes times the ticks they are there.
    """
    sums: dict[str, list[int]] = {}
    end = int(stream.ops["tick"].to_numpy()[-1]) if len(stream) else 0
    for row in stream.storages.to_pylist():
        if row["saved"]:
            mine = sums.setdefault(row["component"], [0, 0, 0])
            mine[0] += row["bytes"]
            mine[1] += 1
            mine[2] += row["bytes"] * ((row["died"] if row["died"] >= 0 else end) - row["born"])
    rows = sorted(sums.items(), key=lambda item: -item[1][0])
    columns = {
        name: pa.array([item[1][place] for item in rows], pa.int64())
        for place, name in enumerate(("bytes", "storages", "byte_ticks"))
    }
    return pa.table({"component": pa.array([item[0] for item in rows], pa.string()), **columns})
