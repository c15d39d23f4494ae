"""Two traces beside each other: what got slower, and whether it was called more often or took longer each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.profiling.reading.trace import Trace
from hybridlab.profiling.summary import TraceSummary, summarise

_SAME = 0.02


@dataclass(frozen=True)
class Difference:
    """One component, operator or kernel in both traces; all figures are per step, times in µs.

    Attributes:
        change_us: ``us_b - us_a``, the sum of the next two.
        from_calls_us: what more or fewer calls account for, at the time a call took in the first trace.
        from_time_us: what longer or shorter calls account for.
        reason: new, gone, more calls, fewer calls, slower calls, faster calls, or same.
    """

    name: str
    calls_a: float
    calls_b: float
    us_a: float
    us_b: float
    change_us: float
    from_calls_us: float
    from_time_us: float
    reason: str


@dataclass(frozen=True, eq=False)
class TraceComparison:
    """Two traces, matched by name; the largest change comes first in every table.

    Attributes:
        measure: what the tables of operators and components compare: ``device`` or ``host`` time.
        step_us: mean time of a step in each.
        categories: mean time a step by kind of work, in each.
        attributed: share of the time that belongs to components, in each.
    """

    a: str
    b: str
    measure: str
    steps: tuple[int, int]
    step_us: tuple[float, float]
    categories: dict[str, tuple[float, float]]
    operators: tuple[Difference, ...]
    kernels: tuple[Difference, ...]
    components: tuple[Difference, ...]
    attributed: tuple[float | None, float | None]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison JSON-ready."""
        return asdict(self)


def compare(a: Trace | TraceSummary, b: Trace | TraceSummary) -> TraceComparison:
    """Match two traces by component, operator and kernel, and say what changed and why."""
    one, other = (x if isinstance(x, TraceSummary) else summarise(x) for x in (a, b))
    on_device = bool(one.kernels) and bool(other.kernels)
    steps = (len(one.steps.steps), len(other.steps.steps))

    def table(
        name: str, label: str, time: str, drop: Callable[[Any], bool] | None = None
    ) -> tuple[Difference, ...]:
        sides = []
        for summary, count in zip((one, other), steps, strict=True):
            rows = [row for row in getattr(summary, name) if drop is None or not drop(row)]
            sides.append(_per_step(rows, label, time, count))
        return _differences(*sides)

    return TraceComparison(
        a=one.path,
        b=other.path,
        measure="device" if on_device else "host",
        steps=steps,
        step_us=(_step_us(one), _step_us(other)),
        categories={
            name: (one.categories[name], other.categories[name]) for name in one.categories
        },
        operators=table("operators", "name", "device_self_us" if on_device else "host_self_us"),
        kernels=table("kernels", "name", "total_us"),
        components=table("components", "path", "device_us" if on_device else "host_us"),
        attributed=(one.attributed, other.attributed),
        notes=tuple(_notes(one, other, on_device)),
    )


def _step_us(summary: TraceSummary) -> float:
    found = summary.steps.steps
    return sum(step.duration_us for step in found) / len(found)


def _per_step(
    rows: Iterable[Any], label: str, time: str, steps: int
) -> dict[str, tuple[float, float]]:
    return {getattr(row, label): (row.calls / steps, getattr(row, time) / steps) for row in rows}


def _differences(
    a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]
) -> tuple[Difference, ...]:
    names = [*a, *(name for name in b if name not in a)]
    found = [_difference(name, a.get(name, (0.0, 0.0)), b.get(name, (0.0, 0.0))) for name in names]
    return tuple(sorted(found, key=lambda row: (-abs(row.change_us), row.name)))


def _difference(name: str, a: tuple[float, float], b: tuple[float, float]) -> Difference:
    (calls_a, us_a), (calls_b, us_b) = a, b
    change = us_b - us_a
    # Without calls on one side (or calls that are not counted) there is no time a call to hold fixed.
    from_calls = (calls_b - calls_a) * us_a / calls_a if calls_a else (us_b if calls_b else 0.0)
    from_time = change - from_calls
    return Difference(
        name,
        calls_a,
        calls_b,
        us_a,
        us_b,
        change,
        from_calls,
        from_time,
        _reason(a, b, from_calls, from_time),
    )


def _reason(
    a: tuple[float, float], b: tuple[float, float], from_calls: float, from_time: float
) -> str:
    if a == b:
        return "same"
    if a == (0.0, 0.0):
        return "new"
    if b == (0.0, 0.0):
        return "gone"
    if abs(b[1] - a[1]) <= _SAME * max(a[1], b[1]) and abs(from_calls) <= _SAME * max(a[1], b[1]):
        return "same"
    if abs(from_calls) >= abs(from_time):
        return "more calls" if from_calls > 0 else "fewer calls"
    return "slower calls" if from_time > 0 else "faster calls"


def _notes(a: TraceSummary, b: TraceSummary, on_device: bool) -> list[str]:
    notes = []
    if bool(a.kernels) != bool(b.kernels):
        notes.append("only one of the two ran on a device: host times are compared")
    devices = [{device.name for device in summary.devices} for summary in (a, b)]
    if on_device and devices[0] and devices[1] and devices[0] != devices[1]:
        names = [" and ".join(sorted(each)) for each in devices]
        notes.append(f"the devices differ: {names[0]} against {names[1]}")
    if a.world_size != b.world_size:
        notes.append(f"the numbers of processes differ: {a.world_size} against {b.world_size}")
    for summary, which in ((a, "first"), (b, "second")):
        if not summary.steps.recorded:
            notes.append(f"the {which} marks no steps, so its figures are of the whole trace")
    return notes
