"""Everything that a trace says, in one record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hybridlab.profiling.analysis.communication import (
    Breakdown,
    Communication,
    breakdown,
    communication,
)
from hybridlab.profiling.analysis.components import Component, Components
from hybridlab.profiling.analysis.critical_path import CriticalPath, critical_path
from hybridlab.profiling.analysis.groundwork import Groundwork, groundwork
from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.kernels import DeviceUse, Kernel, device_use, kernels
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.analysis.memory import (
    MemoryCurve,
    TimelineCurve,
    memory_curves,
    timeline_curve,
)
from hybridlab.profiling.analysis.operators import Operator, operators
from hybridlab.profiling.analysis.steps import CATEGORIES, Step, Steps, steps
from hybridlab.profiling.analysis.waiting import (
    Idle,
    LaunchDelays,
    Queue,
    idle,
    launch_delays,
    queues,
)
from hybridlab.profiling.reading.trace import DeviceFacts, Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TraceSummary:
    """What a trace says; all figures are measured by the profiler that wrote it, times in µs.

    Attributes:
        base_us: what has been subtracted from all times, in µs by the clock of the machine.
        events: how many events with a duration there are.
        span_us: from the first to the last of them.
        steps: the steps, or one that stands for the whole trace.
        categories: mean time a step by kind of work.
        components: time by module or recorded range, the largest first.
        attributed: share of the device time, or of the operators' host time on a CPU, that belongs to a module or
            range, 0 to 1; ``attributed_with_phases`` counts optimiser, communication and data loading too.
        without_launch: share of the device time whose launch lies before the recording, so that nothing can tell
            whose it is; None where nothing ran on a device.
        timeline: bytes by category, where the file is a raw memory timeline.
        notes: what was odd about the trace, in sentences.
    """

    path: str
    rank: int | None
    world_size: int | None
    devices: tuple[DeviceFacts, ...]
    base_us: float
    events: int
    span_us: float
    steps: Steps
    categories: dict[str, float]
    operators: tuple[Operator, ...]
    kernels: tuple[Kernel, ...]
    components: tuple[Component, ...]
    attributed: float | None
    attributed_with_phases: float | None
    without_launch: float | None
    device_use: tuple[DeviceUse, ...]
    communication: Communication
    breakdown: Breakdown | None
    idle: tuple[Idle, ...]
    launch_delays: LaunchDelays | None
    queues: tuple[Queue, ...]
    critical_paths: tuple[CriticalPath, ...]
    memory: tuple[MemoryCurve, ...]
    timeline: TimelineCurve | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures JSON-ready; curves are given by their peaks."""
        return {
            "path": self.path,
            "rank": self.rank,
            "world_size": self.world_size,
            "devices": [asdict(device) for device in self.devices],
            "base_us": self.base_us,
            "events": self.events,
            "span_us": self.span_us,
            "steps": [asdict(step) for step in self.steps.steps],
            "steps_recorded": self.steps.recorded,
            "steps_dropped": list(self.steps.dropped),
            "categories": self.categories,
            "operators": [asdict(row) for row in self.operators],
            "kernels": [asdict(row) for row in self.kernels],
            "components": [asdict(row) for row in self.components],
            "attributed": self.attributed,
            "attributed_with_phases": self.attributed_with_phases,
            "without_launch": self.without_launch,
            "device_use": [asdict(row) for row in self.device_use],
            "communication": asdict(self.communication) | {"overlap": self.communication.overlap},
            "breakdown": asdict(self.breakdown) if self.breakdown else None,
            "idle": [asdict(row) for row in self.idle],
            "launch_delays": asdict(self.launch_delays) if self.launch_delays else None,
            "queues": [asdict(row) for row in self.queues],
            "critical_paths": [
                asdict(path) | {"bound_by": path.bound_by} for path in self.critical_paths
            ],
            "memory": [_peaks(curve) for curve in self.memory],
            "memory_timeline": (
                {"peak_bytes": self.timeline.peak_bytes, "at_peak": self.timeline.at_peak}
                if self.timeline
                else None
            ),
            "notes": list(self.notes),
        }


def frame(rows: Iterable[Any]) -> pd.DataFrame:
    """Return frozen records, such as ``TraceSummary.operators``, as a data frame."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows])


def summarise(trace: Trace, ground: Groundwork | None = None) -> TraceSummary:
    """Run every analysis once and return what they say; nothing of the trace is changed.

    Args:
        trace: the trace.
        ground: its groundwork, where somebody has it already.
    """
    ground = ground or groundwork(trace)
    tree, launched, collective = ground.tree, ground.launched, ground.collective
    found = steps(tree, launched) if len(trace.events) else _no_steps()
    events = trace.events
    return TraceSummary(
        path=trace.path,
        rank=trace.rank,
        world_size=trace.world_size,
        devices=trace.devices,
        base_us=trace.base_us,
        events=len(events),
        span_us=float(events.end_us.max() - events.start_us.min()) if len(events) else 0.0,
        steps=found,
        categories=found.mean(),
        operators=operators(tree, ground.calls),
        kernels=kernels(trace),
        components=_largest_first(ground.shared, trace.has_device),
        attributed=ground.shared.attributed,
        attributed_with_phases=ground.shared.attributed_with_phases,
        without_launch=_without_launch(trace, launched),
        device_use=device_use(trace, found.span_us),
        communication=communication(trace, collective),
        breakdown=breakdown(trace, collective),
        idle=idle(tree, launched),
        launch_delays=launch_delays(tree, launched),
        queues=queues(tree, launched),
        critical_paths=tuple(
            critical_path(
                tree, launched, step.name, (step.start_us, step.start_us + step.duration_us)
            )
            for step in found.steps
            if trace.has_device
        ),
        memory=memory_curves(trace),
        timeline=timeline_curve(trace.timeline) if trace.timeline else None,
        notes=trace.notes + tuple(_notes(trace, tree, found, int((launched.call < 0).sum()))),
    )


def _without_launch(trace: Trace, launched: Launches) -> float | None:
    times = trace.events.dur_us[launched.rows]
    total = float(times.sum())
    return float(times[launched.call == ROOT].sum()) / total if total > 0 else None


def _largest_first(shared: Components, on_device: bool) -> tuple[Component, ...]:
    kept = [row for row in shared.rows if row.calls or row.device_us or row.host_us]
    return tuple(
        sorted(kept, key=lambda row: (-row.device_us if on_device else -row.host_us, row.path))
    )


def _notes(trace: Trace, tree: HostTree, found: Steps, unlaunched: int) -> list[str]:
    notes: list[str] = []
    if trace.timeline is not None:
        return notes
    if not found.recorded:
        notes.append(
            "no step is marked, so the whole trace counts as one; call step() to mark them"
        )
    if found.dropped:
        notes.append(
            f"step {', '.join(found.dropped)} at the end started far less on the device than the one before, as where "
            "the profiler stops early; it is left out of the means"
        )
    if tree.crossing:
        notes.append(
            f"{tree.crossing:,} events of the host overlap their neighbour without lying within it"
        )
    if not trace.has_device:
        notes.append("nothing ran on a device: shares are of the operators' time on the host")
    elif unlaunched:
        notes.append(
            f"{unlaunched:,} device events have no recorded launch, and belong to no operator"
        )
    return notes


def _no_steps() -> Steps:
    empty = Step("0", 0.0, 0.0, dict.fromkeys(CATEGORIES, 0.0), 0.0, 0.0, 0.0)
    return Steps((empty,), False, ())


def _peaks(curve: MemoryCurve) -> dict[str, Any]:
    return {
        "device": curve.device,
        "absolute": curve.absolute,
        "peak_bytes": curve.peak_bytes,
        "peak_reserved_bytes": curve.peak_reserved_bytes,
        "allocations": curve.allocations,
        "points": len(curve.time_us),
        "fragmentation": asdict(curve.fragmentation) if curve.fragmentation else None,
    }
