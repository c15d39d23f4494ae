"""Reads a trace of ``torch.profiler`` that anybody made: CUDA, ROCm or CPU, JSON or gzip, of any size."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np

from hybridlab.profiling.reading import facts
from hybridlab.profiling.reading.blocks import blocks, refuse
from hybridlab.profiling.reading.columns import Columns
from hybridlab.profiling.reading.document import Document
from hybridlab.profiling.reading.events import decode
from hybridlab.profiling.reading.limits import Limits
from hybridlab.profiling.reading.trace import Ids, Ints, Kind, MemoryTimeline, Trace

_ROWS = msgspec.json.Decoder(list[tuple[int, int, int, int]])
_SHOWN = 6


def read_trace(path: str | Path, limits: Limits | None = None) -> Trace:
    """Read a trace into columns.

    Memory grows with the number of events (about 120 bytes each), not with the length of the text.

    Args:
        path: a ``.json`` or ``.json.gz`` of torch.profiler, in the Kineto or Chrome form, or the raw memory timeline
            of ``export_memory_timeline``.
        limits: what the file may cost; the default reads anything that a profiler writes.

    Raises:
        TraceError: the file is missing, cut off, damaged, too large, or not the trace of a profiler.
    """
    path, limits = Path(path), limits or Limits()
    if path.is_dir():
        raise refuse(path, "this is a folder", fix="name one of the files in it")
    document = Document(path, blocks(path, limits), limits)
    collecting = gc.isenabled()
    gc.disable()  # decoded events refer to nothing: looking for cycles among them takes a third of the time
    try:
        if document.rows:
            return _read_timeline(document)
        return _read_events(document)
    finally:
        if collecting:
            gc.enable()


def _read_events(document: Document) -> Trace:
    path, columns = document.path, Columns()
    for batch in document.batches(decode):
        columns.add(batch)
        if columns.entries > document.limits.events:
            raise refuse(path, f"it holds more than {document.limits.events:,} events")
    if not columns.entries:
        raise refuse(
            path, "its list of events is empty", fix="call step() while the profiler is active"
        )
    if not columns.complete:
        raise refuse(
            path, f"none of its {columns.entries:,} entries is an event with a name and a duration"
        )
    events, base_us = columns.finish()
    if not len(events):
        raise refuse(path, "every event in it has a negative time or duration")
    rank, world = facts.rank_and_world(document.fields)
    memory, links = columns.memory(base_us), columns.links(base_us)
    unknown = _unknown(columns, events.kind, events.category)
    return Trace(
        path=str(path),
        base_us=base_us,
        names=tuple(name or "" for name in columns.names),
        categories=tuple(name or "" for name in columns.categories),
        threads=columns.described_threads(),
        events=events,
        memory=memory,
        links=links,
        collectives=columns.collectives(),
        counted=columns.counted(),
        devices=facts.devices(document.fields),
        rank=rank,
        world_size=world,
        schema=facts.schema(document.fields),
        notes=tuple(_notes(columns.odd, unknown)),
    )


def _unknown(columns: Columns, kind: Ints, category: Ids) -> Counter[str]:
    """Count the events of each category that is not known."""
    counts = np.bincount(category[kind == Kind.UNKNOWN], minlength=len(columns.categories))
    return Counter(
        {name or "(none)": int(counts[at]) for name, at in columns.categories.items() if counts[at]}
    )


def _notes(odd: Counter[str], unknown: Counter[str]) -> list[str]:
    notes = []
    if unknown:
        shown = ", ".join(f"{name} ({count:,})" for name, count in unknown.most_common(_SHOWN))
        more = "" if len(unknown) <= _SHOWN else f" and {len(unknown) - _SHOWN} more"
        notes.append(f"categories that are not known, and left out of all sums: {shown}{more}")
    if count := odd["negative"]:
        notes.append(f"{count:,} events with a negative time or duration are left out")
    if count := odd["untimed"]:
        notes.append(f"{count:,} events without a time or a duration are left out")
    if count := odd["without an end"]:
        notes.append(f"{count:,} events begin without an end, or end without a beginning")
    if count := odd["not events"]:
        notes.append(f"{count:,} entries are not events")
    if count := odd["arrows without an end"]:
        notes.append(f"{count:,} arrows between forward and backward lead out of the recorded time")
    return notes


def _read_timeline(document: Document) -> Trace:
    """Read the raw memory timeline: a list of time, action, bytes and category."""
    parts = [np.array(rows, dtype=np.int64) for rows in document.batches(_ROWS.decode) if rows]
    empty = Columns()
    events, base_us = empty.finish()
    return Trace(
        path=str(document.path),
        base_us=base_us,
        names=(),
        categories=(),
        threads=(),
        events=events,
        memory=empty.memory(base_us),
        links=empty.links(base_us),
        collectives=empty.collectives(),
        timeline=MemoryTimeline(np.concatenate(parts)),
        notes=("this is a memory timeline: it tells bytes by category, and no operators",),
    )
