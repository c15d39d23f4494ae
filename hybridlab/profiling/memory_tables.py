"""What a profile says of memory, small enough to be drawn: what is there when, who touches it, and how far apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hybridlab.hardware.caches import Cache
from hybridlab.profiling.record import Profile
from hybridlab.trace.access import Access, accesses
from hybridlab.trace.handover import hand_overs
from hybridlab.trace.kept import kept_for_backward
from hybridlab.trace.live import at_peak, live
from hybridlab.trace.raster import KINDS, By, raster
from hybridlab.trace.reuse import Reuse, levels
from hybridlab.trace.stream import OPS, OpStream

POINTS = 600
"""Of a curve; a screen is hardly wider. In each stretch the moment with the most bytes is kept."""
_MOST_PARTS = 12
"""Components that are told apart over time; what is smaller is one part."""
REST = "(smaller ones)"
Numbers = np.ndarray[Any, Any]
Parts = Literal["category", "component"]


def timed(stream: OpStream) -> OpStream:
    """Return a measured stream in which operators without a time have one between their neighbours'."""
    starts = np.array(stream.numbers("start_us"), dtype=float)
    known = np.isfinite(starts)
    if known.all() or not known.any():
        return stream
    rows = np.arange(len(starts))
    starts = np.interp(rows, rows[known], starts[known])
    place = stream.ops.schema.get_field_index("start_us")
    ops = stream.ops.set_column(place, OPS.field("start_us"), pa.array(starts))
    return OpStream(ops, stream.storages, stream.source, stream.notes)


def live_table(profile: Profile) -> pa.Table:
    """Return the bytes that are there: source, by (category or component), name, tick, us, bytes.

    A tick has the time of the measured operators around it, a predicted one too: both streams have the same operators.
    """
    parts = []
    clock = _clock(profile.stream, profile.stream)
    for stream in (profile.stream, profile.predicted):
        if stream is None:
            continue
        mine = clock if stream is profile.stream else _clock(stream, profile.stream)
        parts += [_live(stream, by, mine) for by in ("category", "component")]
    return pa.concat_tables(parts).combine_chunks()


def _live(stream: OpStream, by: Parts, clock: tuple[Numbers, Numbers] | None) -> pa.Table:
    ticks, curves = live_curves(stream, by)
    us = np.interp(ticks, *clock) if clock is not None else np.full(len(ticks), np.nan)
    count = len(curves)
    return pa.table(
        {
            "source": pa.array([stream.source] * (count * len(ticks)), pa.string()),
            "by": pa.array([by] * (count * len(ticks)), pa.string()),
            "name": pa.array([name for name in curves for _ in ticks], pa.string()),
            "tick": pa.array(np.tile(ticks, count), pa.int64()),
            "us": pa.array(np.tile(us, count), pa.float64(), from_pandas=True),
            "bytes": pa.array(
                np.concatenate([*curves.values()]) if curves else np.array([], dtype=np.int64),
                pa.int64(),
            ),
        }
    )


def live_curves(stream: OpStream, by: Parts) -> tuple[Numbers, dict[str, Numbers]]:
    """Return ticks, at most ``POINTS`` with the peak among them, and the bytes of each part at them.

    Parts are the largest first; what is smaller than the ``_MOST_PARTS`` largest is one part, ``REST``.
    """
    found = live(stream, by)
    rows = thinned(found.total_bytes)
    shown = sorted(found.parts, key=lambda name: -int(found.parts[name].max(initial=0)))
    curves = {name: found.parts[name][rows] for name in shown[:_MOST_PARTS]}
    if len(shown) > _MOST_PARTS:
        curves[REST] = np.sum([found.parts[name][rows] for name in shown[_MOST_PARTS:]], axis=0)
    return found.ticks[rows], curves


def thinned(values: Numbers, points: int = POINTS) -> Numbers:
    """Return at most so many rows of a curve: the first, the last, and the largest of each stretch between."""
    if len(values) <= points:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), points - 1).astype(int)
    best = [a + int(np.argmax(values[a:b])) for a, b in itertools.pairwise(edges)]
    return np.unique([0, *best, len(values) - 1])


def _clock(stream: OpStream, measured: OpStream) -> tuple[Numbers, Numbers] | None:
    """Return ticks of a stream and the microseconds that belong to them; None where no time is known.

    Operators of two streams are the same where phase, component, name and their number so far are.
    """
    starts = np.array(measured.numbers("start_us"), dtype=float)
    times = dict(zip(_identities(measured), starts, strict=True))
    mine = np.array([times.get(key, np.nan) for key in _identities(stream)], dtype=float)
    known = np.isfinite(mine)
    if not known.any():
        return None
    return stream.numbers("tick")[known], np.maximum.accumulate(mine[known])


def _identities(stream: OpStream) -> list[tuple[str, str, str, int]]:
    """Return what tells each operator from the others of a step."""
    seen: dict[tuple[str, str, str], int] = {}
    found = []
    columns = (stream.strings(name) for name in ("phase", "component", "op"))
    for key in zip(*columns, strict=True):
        seen[key] = seen.get(key, 0) + 1
        found.append((*key, seen[key]))
    return found


def allocation_table(profile: Profile) -> pa.Table:
    """Return the profiler's own account of memory: us and total_bytes, with what was there before the step."""
    us = np.asarray(profile.memory["us"].to_numpy(), dtype=float)
    total = np.cumsum(np.asarray(profile.memory["bytes"].to_numpy(), dtype=np.int64))
    total = total + profile.peak_bytes_measured - int(total.max(initial=0))
    rows = thinned(total)
    return pa.table(
        {"us": pa.array(us[rows], pa.float64()), "total_bytes": pa.array(total[rows], pa.int64())}
    )


def peak_table(profile: Profile) -> pa.Table:
    """Return what is there at the peak, by source, category and component."""
    found = []
    for stream in (profile.stream, profile.predicted):
        if stream is not None:
            table = at_peak(stream)
            source = pa.array([stream.source] * table.num_rows, pa.string())
            found.append(table.add_column(0, "source", source))
    return pa.concat_tables(found).combine_chunks()


def raster_tables(stream: OpStream) -> dict[str, pa.Table]:
    """Return accesses by time, at most 200 by 200: start, width, unit, and bytes for each kind.

    ``raster`` is by ``component``, ``storage_raster`` by ``storage``, in words. Both are there twice: by measured time
    (``us``), and with each operator as long as any other (``operator``).
    """
    even = stream.ops.schema.get_field_index("start_us")
    untimed = stream.ops.set_column(
        even, OPS.field("start_us"), pa.nulls(len(stream), pa.float64())
    )
    clocks = timed(stream), OpStream(untimed, stream.storages, stream.source)
    every = list(accesses(stream))
    return {
        name: pa.concat_tables([_raster(clock, by, every) for clock in clocks]).combine_chunks()
        for name, by in _RASTERS.items()
    }


_RASTERS: dict[str, By] = {"raster": "component", "storage_raster": "storage"}


def _raster(stream: OpStream, by: By, every: Sequence[Access]) -> pa.Table:
    found = raster(stream, by, bins=200, most_rows=200, every=every)
    row, column = np.nonzero(found.bytes.sum(axis=2))
    width = float(found.starts[1] - found.starts[0]) if len(found.starts) > 1 else 1.0
    return pa.table(
        {
            by: pa.array([found.rows[place] for place in row], pa.string()),
            "start": pa.array(found.starts[column], pa.float64()),
            "width": pa.array(np.full(len(row), width), pa.float64()),
            "unit": pa.array([found.unit] * len(row), pa.string()),
            **{
                f"{kind.replace(' ', '_')}_bytes": pa.array(
                    found.bytes[row, column, place], pa.int64()
                )
                for place, kind in enumerate(KINDS)
            },
        }
    )


def reuse_table(found: Sequence[Reuse]) -> pa.Table:
    """Return the histogram of reuse distances: component, level, accesses, bytes; ``most_bytes`` ends a bin.

    Bins are powers of two; a first use has none.
    """
    sums: dict[tuple[str, str, int | None], list[int]] = {}
    for item in found:
        size = item.distance_bytes
        edge = None if size is None else 1 << max(0, (size - 1).bit_length())
        mine = sums.setdefault((item.component, item.level, edge), [0, 0])
        mine[0] += 1
        mine[1] += item.bytes
    keys = sorted(sums, key=lambda key: (key[0], key[2] or 0))
    return pa.table(
        {
            "component": pa.array([key[0] for key in keys], pa.string()),
            "level": pa.array([key[1] for key in keys], pa.string()),
            "most_bytes": pa.array([key[2] for key in keys], pa.int64()),
            "accesses": pa.array([sums[key][0] for key in keys], pa.int64()),
            "bytes": pa.array([sums[key][1] for key in keys], pa.int64()),
        }
    )


def level_table(found: Sequence[Reuse]) -> pa.Table:
    """Return the bytes that each component takes from each memory level, and their share of its own."""
    rows = [
        (component, level, size, size / max(1, sum(mine.values())))
        for component, mine in levels(found).items()
        for level, size in mine.items()
    ]
    kinds = (("component", pa.string()), ("level", pa.string()), ("bytes", pa.int64()))
    return pa.table(
        {
            name: pa.array([row[place] for row in rows], kind)
            for place, (name, kind) in enumerate((*kinds, ("share", pa.float64())))
        }
    )


def cache_table(caches: Sequence[Cache]) -> pa.Table:
    """Return the caches against which reuse is held: level and bytes."""
    return pa.table(
        {
            "level": pa.array([cache.level for cache in caches], pa.string()),
            "bytes": pa.array([cache.size_bytes for cache in caches], pa.int64()),
        }
    )


def hand_over_table(stream: OpStream) -> pa.Table:
    """Return what components hand to each other, most bytes first."""
    found = hand_overs(stream)
    numbers = (
        "reads",
        "read_bytes",
        "distinct_bytes",
        "copied_bytes",
        "cast_bytes",
        "relaid_bytes",
    )
    return pa.table(
        {
            "writer": pa.array([item.writer for item in found], pa.string()),
            "reader": pa.array([item.reader for item in found], pa.string()),
            **{
                name: pa.array([getattr(item, name) for item in found], pa.int64())
                for name in numbers
            },
        }
    )


def kept_table(stream: OpStream) -> pa.Table:
    """Return what is kept for backward by component; ``waits`` is the mean share of the step that it waits."""
    found = kept_for_backward(stream)
    end = max(1, int(stream.ops["tick"].to_numpy()[-1])) if len(stream) else 1
    sizes = np.maximum(1, np.asarray(found["bytes"].to_numpy(), dtype=float))
    waits = np.asarray(found["byte_ticks"].to_numpy(), dtype=float) / sizes / end
    return found.append_column("waits", pa.array(waits, pa.float64()))
