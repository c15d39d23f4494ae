"""What a profile says of work: each component against the machine's ceilings, what ran when, and operators by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlab.hardware.ceilings import Ceilings
from hybridlab.profiling.record import Profile
from hybridlab.trace.costs import costs
from hybridlab.trace.fusion import Fusable
from hybridlab.trace.kernels import kernels, on_device
from hybridlab.trace.repeated import Dead, Repeated
from hybridlab.trace.stream import OpStream

OVERHEAD, COMPUTE = "overhead", "compute"
"""What limits a component beside the bandwidth of a memory level: the cost of calls, or arithmetic."""
_PRECISION = "float32"
Numbers = np.ndarray[Any, Any]


def component_table(profile: Profile) -> pa.Table:
    """Return a row a component: measured and predicted milliseconds, FLOPs, bytes, kept bytes, FLOPs a byte.

    ``joules`` is its share by time of the step's measured energy, ``grad_norm`` that of its own weights, ``device_ms``
    the time on a device of what it started there.
    """
    rows = [asdict(item) for item in profile.components]
    for row in rows:
        row["component"] = row.pop("path")
        row["intensity"] = row["flops"] / max(1, row["bytes_read"] + row["bytes_written"])
    return pa.Table.from_pylist(rows, _COMPONENTS)


_COMPONENTS = pa.schema(
    [
        ("component", pa.string()),
        *((name, pa.float64()) for name in ("ms", "predicted_ms", "forward_ms", "backward_ms")),
        *((name, pa.float64()) for name in ("optimiser_ms", "share")),
        *((name, pa.int64()) for name in ("operators", "flops", "bytes_read", "bytes_written")),
        ("saved_bytes", pa.int64()),
        *((name, pa.float64()) for name in ("intensity", "joules", "grad_norm", "device_ms")),
    ]
)


def ceiling_table(ceilings: Ceilings | None) -> pa.Table:
    """Return the machine's ceilings: FLOP/s by precision, bytes/s by memory level, and seconds a call."""
    rows: list[tuple[str, str, int | None, float]] = []
    if ceilings is not None:
        rows += [(COMPUTE, name, None, speed) for name, speed in ceilings.flops_per_s.items()]
        rows += [
            ("bandwidth", level, one.working_set_bytes, one.bytes_per_s)
            for one, level in zip(ceilings.bandwidths, level_names(ceilings), strict=True)
        ]
        rows.append((OVERHEAD, "call", None, ceilings.call_s))
    kinds = (
        ("kind", pa.string()),
        ("name", pa.string()),
        ("working_set_bytes", pa.int64()),
        ("value", pa.float64()),
    )
    return pa.table(
        {
            name: pa.array([row[place] for row in rows], kind)
            for place, (name, kind) in enumerate(kinds)
        }
    )


def level_names(ceilings: Ceilings) -> list[str]:
    """Return a name for each measured bandwidth; by its working set where the system tells no caches."""
    return [one.level or f"{one.working_set_bytes / 2**20:.3g} MiB" for one in ceilings.bandwidths]


def roofline_table(profile: Profile, ceilings: Ceilings | None) -> pa.Table:
    """Return a row for each component and source, ``predicted`` or ``measured``.

    Each operator is held against the ceilings alone: the longer of its arithmetic at the float32 ceiling and its bytes
    at the bandwidth of the smallest memory that holds them. ``ceiling_ms`` is the sum of those, ``share`` how much of
    ``ms`` it would be, and ``bound`` what takes the longest: ``compute``, the name of a memory level, or ``overhead``,
    the cost of calling operators. Without ceilings the three are null.
    """
    rows: list[dict[str, Any]] = []
    times: dict[str, dict[str, float | None]] = {
        "measured": {item.path: item.ms for item in profile.components},
        "predicted": {item.path: item.predicted_ms for item in profile.components},
    }
    streams = {"predicted": profile.predicted, "measured": profile.stream}
    for source, stream in streams.items():
        if stream is None:
            continue
        limits = _limits(stream, ceilings)
        for row in costs(stream).to_pylist():
            ms = times[source].get(row["component"])
            flops, moved = row["flops"], row["bytes_read"] + row["bytes_written"]
            bound, ceiling_ms = limits.get(row["component"], (None, None))
            rows.append(
                {
                    "component": row["component"],
                    "source": source,
                    "flops": flops,
                    "bytes": moved,
                    "operators": row["operators"],
                    "intensity": row["intensity"],
                    "ms": ms,
                    "flops_per_s": 1e3 * flops / ms if ms else None,
                    "ceiling_ms": ceiling_ms,
                    "ceiling_flops_per_s": 1e3 * flops / ceiling_ms if ceiling_ms else None,
                    "share": ceiling_ms / ms if ms and ceiling_ms is not None else None,
                    "bound": bound,
                }
            )
    return pa.Table.from_pylist(rows, _ROOFLINE)


_ROOFLINE = pa.schema(
    [
        ("component", pa.string()),
        ("source", pa.string()),
        ("flops", pa.int64()),
        ("bytes", pa.int64()),
        ("operators", pa.int64()),
        ("intensity", pa.float64()),
        ("ms", pa.float64()),
        ("flops_per_s", pa.float64()),
        ("ceiling_ms", pa.float64()),
        ("ceiling_flops_per_s", pa.float64()),
        ("share", pa.float64()),
        ("bound", pa.string()),
    ]
)


def _limits(stream: OpStream, ceilings: Ceilings | None) -> dict[str, tuple[str, float]]:
    """Return what bounds each component, and the milliseconds that its operators need at the ceilings."""
    if ceilings is None or _PRECISION not in ceilings.flops_per_s or not len(stream):
        return {}
    sets = np.array([one.working_set_bytes for one in ceilings.bandwidths])
    speeds = np.array([one.bytes_per_s for one in ceilings.bandwidths])
    moved = stream.numbers("bytes_read") + stream.numbers("bytes_written")
    level = np.minimum(np.searchsorted(sets, moved), len(sets) - 1)
    computing = 1e3 * stream.numbers("flops") / ceilings.flops_per_s[_PRECISION]
    moving = 1e3 * moved / speeds[level]
    names, components = level_names(ceilings), np.array(stream.strings("component"), dtype=object)
    found = {}
    for path in dict.fromkeys(components):
        mine = components == path
        moves = moving[mine] > computing[mine]
        takes = {COMPUTE: float(computing[mine][~moves].sum())}
        takes[OVERHEAD] = 1e3 * ceilings.call_s * int(mine.sum())
        for place, name in enumerate(names):
            takes[name] = float(moving[mine][moves & (level[mine] == place)].sum())
        best = float(np.maximum(computing[mine], moving[mine]).sum())
        found[str(path)] = max(takes, key=lambda name: takes[name]), best
    return found


def flame_table(stream: OpStream) -> pa.Table:
    """Return what ran when in a measured step: phase, component, op, start_us, dur_us; ``depth`` counts the path.

    Operators without a measured time are left out. Times are medians over steps: where they make operators overlap, the
    later one begins where the earlier one ends.
    """
    ops = stream.ops.select(["phase", "component", "op", "start_us", "dur_us"])
    known = np.isfinite(stream.numbers("start_us").astype(float))
    ops = ops.filter(pa.array(known)).sort_by("start_us")
    starts = np.array(ops["start_us"].to_numpy(), dtype=float)
    ends = starts + np.asarray(ops["dur_us"].to_numpy(), dtype=float)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ends)[:-1]])
    starts = np.maximum(starts, before[: len(starts)])
    for name, values in (("start_us", starts), ("dur_us", np.maximum(ends - starts, 0.0))):
        place = ops.schema.get_field_index(name)
        ops = ops.set_column(place, name, pa.array(values, pa.float64()))
    depth = [path.count(".") + 1 for path in ops["component"].to_pylist()]
    return ops.append_column("depth", pa.array(depth, pa.int32()))


def operator_table(stream: OpStream) -> pa.Table:
    """Return a row for each component, phase and operator with its number, work and measured milliseconds.

    ``kernels`` is how many it started on a device, ``device_ms`` their time there; null where nothing ran on one.
    """
    by = ("component", "phase", "op")
    found = costs(stream, by)
    took = np.asarray(found["dur_us"].to_numpy(), dtype=float) / 1e3
    found = found.drop_columns(["dur_us"])
    found = found.append_column("ms", pa.array(took, pa.float64(), from_pandas=True))
    started: dict[tuple[str, ...], list[float]] = {}
    for row in kernels(stream).to_pylist() if on_device(stream) else ():
        mine = started.setdefault(tuple(row[name] for name in by), [0, 0.0])
        mine[0] += 1
        mine[1] += row["dur_us"] / 1e3
    none: Any = [0, 0.0] if on_device(stream) else [None, None]
    keys = zip(*(found[name].to_pylist() for name in by), strict=True)
    counts = [started.get(key, none) for key in keys]
    found = found.append_column("kernels", pa.array([row[0] for row in counts], pa.int64()))
    return found.append_column("device_ms", pa.array([row[1] for row in counts], pa.float64()))


def kernel_table(stream: OpStream) -> pa.Table:
    """Return a row for each kernel, component, phase and operator: calls and ms on the device, the longest first."""
    by = ["kernel", "component", "phase", "op"]
    found = kernels(stream).group_by(by, use_threads=False)
    table = found.aggregate([("dur_us", "sum"), ([], "count_all")])
    ms = pc.divide(table["dur_us_sum"], 1e3)
    table = table.select([*by, "count_all"]).rename_columns([*by, "calls"])
    return table.append_column("ms", ms).sort_by([("ms", "descending")])


def wasted_table(found: list[Repeated] | list[Dead]) -> pa.Table:
    """Return repeated or dead work by component and operator, most bytes first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for item in found:
        mine = sums.setdefault((item.component, item.op), [0, 0, 0])
        mine[0] += 1
        mine[1] += item.flops
        mine[2] += item.bytes_moved
    rows = sorted(sums.items(), key=lambda entry: -entry[1][2])
    return pa.table(
        {
            "component": pa.array([key[0] for key, _ in rows], pa.string()),
            "op": pa.array([key[1] for key, _ in rows], pa.string()),
            **_columns([mine for _, mine in rows], ("operators", "flops", "bytes_moved")),
        }
    )


def fusable_table(found: list[Fusable]) -> pa.Table:
    """Return chains that fusion would shorten, equal ones of a component and phase together, most saved bytes first."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for item in found:
        key = item.component, item.phase, " → ".join(item.ops)
        mine = sums.setdefault(key, [0, 0, 0, 0])
        for place, value in enumerate((1, item.rows, item.moved_bytes, item.saved_bytes)):
            mine[place] += value
    rows = sorted(sums.items(), key=lambda entry: -entry[1][3])
    words = {
        name: pa.array([key[place] for key, _ in rows], pa.string())
        for place, name in enumerate(("component", "phase", "ops"))
    }
    names = ("chains", "operators", "moved_bytes", "saved_bytes")
    return pa.table({**words, **_columns([mine for _, mine in rows], names)})


def _columns(rows: list[list[int]], names: tuple[str, ...]) -> dict[str, pa.Array]:
    return {
        name: pa.array([row[place] for row in rows], pa.int64()) for place, name in enumerate(names)
    }
