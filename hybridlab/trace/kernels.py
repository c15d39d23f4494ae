"""What the operators of a measured stream started on a device, a row each: kernels, copies and fills."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlab.trace.stream import OpStream

_OF_OPERATORS = ("phase", "component", "op")


def kernels(stream: OpStream) -> pa.Table:
    """Return phase, component and op of what started each, its name (``kernel``), stream, start_us, dur_us and ``row``.

    Rows are in running order of the operators. Empty where nothing ran on a device.
    """
    ops = stream.ops.combine_chunks()
    lists = ops["kernels"].combine_chunks()
    parents = pc.list_parent_indices(lists).cast(pa.int64())
    found = {name: ops[name].cast(pa.string()).take(parents) for name in _OF_OPERATORS}
    return pa.table(
        {
            "row": parents,
            **found,
            "kernel": pc.list_flatten(lists),
            "stream": pc.list_flatten(ops["kernel_streams"].combine_chunks()),
            "start_us": pc.list_flatten(ops["kernel_starts_us"].combine_chunks()),
            "dur_us": pc.list_flatten(ops["kernel_us"].combine_chunks()),
        }
    )


def on_device(stream: OpStream) -> bool:
    """Say whether anything of the stream ran on a device."""
    return bool(stream.ops["kernels"].null_count < len(stream))


def device_us(stream: OpStream) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the µs on a device of what each operator started; NaN where nothing ran on one."""
    if not on_device(stream):
        return np.full(len(stream), np.nan)
    found = kernels(stream)
    times = np.zeros(len(stream))
    np.add.at(times, found["row"].to_numpy(), found["dur_us"].to_numpy())
    return times
