"""The tables behind the pictures of a trace: written once by the process that read it, drawn by whoever opens it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybridlab.profiling.analysis.collectives import collectives
from hybridlab.profiling.analysis.counters import counters
from hybridlab.profiling.analysis.groundwork import Groundwork
from hybridlab.profiling.analysis.memory import CATEGORIES as MEMORY_CATEGORIES
from hybridlab.profiling.analysis.waiting import delay_columns, queue_curves
from hybridlab.profiling.summary import TraceSummary
from hybridlab.profiling.trace_flame import flame, thinned

if TYPE_CHECKING:
    import pandas as pd

_EDGES_US = np.concatenate(([0.0], np.logspace(0, 6, 31)))
"""Borders of the histogram of launch delays: below 1 µs, then five to each factor of ten."""
_LONGEST_DELAYS = 200


def tables(ground: Groundwork, summary: TraceSummary) -> dict[str, pd.DataFrame]:
    """Return every table by its name; those of what the trace does not hold are left out. Times are in µs.

    Names: flame, lanes, flame_kept, steps, categories, operators, kernels, components, device_use, idle, queue,
    queues, launch_delays, longest_delays, critical_path, critical_longest, collectives, counters, memory,
    memory_categories.
    """
    made = {
        "steps": _steps(summary),
        "categories": _categories(summary),
        "operators": _rows(summary.operators),
        "kernels": _rows(summary.kernels),
        "components": _rows(summary.components),
        "device_use": _rows(summary.device_use),
        "idle": _rows(summary.idle),
        "queues": _rows(summary.queues),
        "queue": _queue(ground),
        **_delays(ground),
        **_critical(summary),
        "collectives": _rows(collectives(ground)),
        "counters": counters(ground.trace),
        "memory": _memory(summary),
        "memory_categories": _memory_categories(summary),
        **_flame(ground),
    }
    return {name: table for name, table in made.items() if len(table)}


def save(found: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write tables as ``NAME.parquet`` into a folder, which is made.

    Raises:
        OSError: the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        draft = folder / f".{name}.new"
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), draft, compression="zstd")
        draft.replace(folder / f"{name}.parquet")


def _rows(records: tuple[object, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(record) for record in records])  # type: ignore[call-overload]


def _steps(summary: TraceSummary) -> pd.DataFrame:
    import pandas as pd

    if summary.timeline is not None:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {
                "step": step.name,
                "start_us": step.start_us,
                "duration_us": step.duration_us,
                **{f"kind_{kind}_us": us for kind, us in step.by_category.items()},
                "computation_us": step.computation_us,
                "communication_us": step.communication_us,
                "overlap_us": step.overlap_us,
            }
            for step in summary.steps.steps
        ]
    )


def _categories(summary: TraceSummary) -> pd.DataFrame:
    import pandas as pd

    total = sum(summary.categories.values())
    if not total:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "kind": list(summary.categories),
            "us_per_step": list(summary.categories.values()),
            "share": [us / total for us in summary.categories.values()],
        }
    )


def _queue(ground: Groundwork) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for curve in queue_curves(ground.tree, ground.launched):
        keep = thinned(curve.time_us, curve.length.astype(np.float64))
        parts.append(
            pd.DataFrame(
                {
                    "device": curve.device,
                    "stream": curve.stream,
                    "time_us": curve.time_us[keep],
                    "length": curve.length[keep],
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _delays(ground: Groundwork) -> dict[str, pd.DataFrame]:
    import pandas as pd

    delays = delay_columns(ground.tree, ground.launched)
    if not len(delays.delay_us):
        return {}
    events, names = ground.trace.events, ground.trace.names
    edges = np.append(_EDGES_US, max(_EDGES_US[-1], float(delays.delay_us.max())) + 1.0)
    counts, _ = np.histogram(delays.delay_us, edges)
    used = np.flatnonzero(counts)
    shown = slice(int(used[0]), int(used[-1]) + 1)
    longest = np.argsort(-delays.delay_us, kind="stable")[:_LONGEST_DELAYS]
    rows = delays.rows[longest]
    return {
        "launch_delays": pd.DataFrame(
            {
                "from_us": edges[:-1][shown],
                "to_us": edges[1:][shown],
                "kernels": counts[shown],
            }
        ),
        "longest_delays": pd.DataFrame(
            {
                "kernel": [names[i] for i in events.name[rows]],
                "stream": events.stream[rows],
                "start_us": events.start_us[rows],
                "delay_us": delays.delay_us[longest],
                "call_us": delays.call_us[longest],
                "kernel_us": delays.kernel_us[longest],
            }
        ),
    }


def _critical(summary: TraceSummary) -> dict[str, pd.DataFrame]:
    import pandas as pd

    paths = [
        {"step": path.step, "kind": kind, "us": us}
        for path in summary.critical_paths
        for kind, us in path.by_kind.items()
    ]
    longest = [
        {"step": path.step, "name": name, "us": us}
        for path in summary.critical_paths
        for name, us in path.longest
    ]
    return {"critical_path": pd.DataFrame(paths), "critical_longest": pd.DataFrame(longest)}


def _memory(summary: TraceSummary) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for curve in summary.memory:
        keep = thinned(curve.time_us, curve.allocated_bytes.astype(np.float64))
        reserved = curve.reserved_bytes
        if reserved is not None and curve.fragmentation is not None:
            unused = (reserved - curve.allocated_bytes).astype(np.float64)
            keep = np.union1d(keep, thinned(curve.time_us, unused))
        part = pd.DataFrame(
            {
                "device": curve.device,
                "time_us": curve.time_us[keep],
                "allocated_bytes": curve.allocated_bytes[keep],
            }
        )
        part["reserved_bytes"] = np.nan if reserved is None else reserved[keep].astype(np.float64)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _memory_categories(summary: TraceSummary) -> pd.DataFrame:
    import pandas as pd

    curve = summary.timeline
    if curve is None:
        return pd.DataFrame()
    time = (curve.time_ns - curve.time_ns[0]) / 1e3
    keep = thinned(time, curve.bytes.sum(axis=1).astype(np.float64))
    made = pd.DataFrame(curve.bytes[keep], columns=[f"{name}_bytes" for name in MEMORY_CATEGORIES])
    made.insert(0, "time_us", time[keep])
    return made


def _flame(ground: Groundwork) -> dict[str, pd.DataFrame]:
    import pandas as pd

    if not len(ground.trace.events):
        return {}
    found = flame(ground)
    kept = {"events": found.events, "single": found.single, "frames": found.frames}
    return {"flame": found.bars, "lanes": found.lanes, "flame_kept": pd.DataFrame([kept])}
