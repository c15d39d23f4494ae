"""From the profiler's events to time by component: every instant of a step belongs to the innermost range at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybridlab.profiling.launched import DeviceEvent, Id, Launched, launched
from hybridlab.profiling.reading.trace import CATEGORIES, DEVICE, Kind
from hybridlab.trace.attribution import OPTIMISER
from hybridlab.trace.marks import RANGE
from hybridlab.trace.stream import PHASES

STEP = "ProfilerStep#"
"""What the names of steps begin with, as TensorBoard knows them."""
FORWARD, BACKWARD, UPDATE = PHASES
NODE = "autograd::engine::evaluate_function: "
MEMORY_EVENT = "[memory]"
UNATTRIBUTED = "(unattributed)"
Owner = Callable[[int], str | None]


@dataclass(frozen=True)
class Event:
    """One event of a thread; ``sequence`` is its number in the autograd graph, -1 where it has none."""

    name: str
    start_ns: int
    end_ns: int
    sequence: int = -1


@dataclass
class Call:
    """One operator with the component and phase it ran for; ``step`` counts the steps from 0."""

    name: str
    step: int
    phase: str
    component: str
    start_ns: int
    dur_ns: int
    depth: int


@dataclass
class Swept:
    """Nanoseconds of one or several steps by (component, phase), every operator, and what ran on a device."""

    ns: dict[tuple[str, str], int] = field(default_factory=dict)
    step_starts: list[int] = field(default_factory=list)
    step_ns: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    launched: list[Launched] = field(default_factory=list)


@dataclass
class _Open:
    event: Event
    component: str
    phase: str
    mine: bool
    """Whether time in it alone is its component's; a step's own time is nobody's."""
    since: int


@dataclass(frozen=True)
class Recorded:
    """What the profiler saw.

    ``events`` are of the thread that runs the steps and of the one that runs their backward, ordered by start, the
    longer first; ``memory`` is every (ns, bytes) of the device; ``launched`` what ran on it.
    """

    events: list[Event]
    memory: list[tuple[int, int]]
    launched: list[Launched]


def events_of(results: Any, host: Any, device: Any) -> Recorded:
    """Read the profiler's results; ``host`` and ``device`` are kinds of device, the same for a model on the CPU."""
    threads: dict[int, list[Event]] = {}
    memory: list[tuple[int, int]] = []
    ran: list[DeviceEvent] = []
    calls: list[Id] = []
    operators: list[Id] = []
    for event in results.events():
        name, kind, start = event.name(), event.device_type(), event.start_ns()
        if name == MEMORY_EVENT:
            if kind == device:
                memory.append((start, event.nbytes()))
        elif kind == host:
            number = event.correlation_id() if device != host else 0
            if device != host and CATEGORIES.get(event.activity_type()) is Kind.RUNTIME:
                calls.append((number, start))
                continue
            operators.append((number, start))
            found = Event(name, start, start + event.duration_ns(), event.sequence_nr())
            threads.setdefault(event.start_thread_id(), []).append(found)
        elif CATEGORIES.get(event.activity_type()) in DEVICE:
            ids = event.correlation_id(), event.linked_correlation_id()
            stream = event.device_resource_id()
            ran.append(DeviceEvent(name, start, event.duration_ns(), stream, *ids))
    return Recorded(_one_thread(threads), sorted(memory), launched(ran, calls, operators))


def _one_thread(threads: dict[int, list[Event]]) -> list[Event]:
    """Return the events of the thread with the steps, and of the one that autograd runs backward on, if another.

    An accelerator's backward has a thread of its own, while the one that asked for it waits: together they are one line
    of time.
    """
    main = next((e for e in threads.values() if any(x.name.startswith(STEP) for x in e)), [])
    nodes = {
        thread: sum(e.name.startswith(NODE) for e in events) for thread, events in threads.items()
    }
    most = max(nodes, key=lambda thread: nodes[thread], default=None)
    if most is not None and nodes[most] and threads[most] is not main:
        main = [*main, *threads[most]]
    return sorted(main, key=lambda e: (e.start_ns, -e.end_ns))


def sweep(events: Sequence[Event], owner: Owner) -> Swept:
    """Attribute each instant of every step on one thread.

    In forward the innermost component's range counts, in backward the node of the autograd graph at work, by its
    sequence number; a node that adds up a gradient has none and counts as of the node before it. Between two nodes the
    engine makes the next one ready, and that time counts as the next one's.

    Args:
        events: those of one thread, ordered by start, the longer first.
        owner: says whose node has a sequence number.
    """
    found = Swept()
    stack: list[_Open] = []
    last = UNATTRIBUTED
    for event in events:
        _close(stack, event.start_ns, found)
        if not stack and not event.name.startswith(STEP):
            continue
        top = stack[-1] if stack else None
        component = top.component if top else UNATTRIBUTED
        phase, mine = (top.phase, top.mine) if top else (FORWARD, False)
        if event.name.startswith(STEP):
            found.step_starts.append(event.start_ns)
            found.step_ns.append(event.end_ns - event.start_ns)
        elif event.name.startswith(RANGE):
            component, mine = event.name.removeprefix(RANGE), True
            phase = UPDATE if component == OPTIMISER else phase
        elif event.name.startswith(NODE):
            component = last = owner(event.sequence) or last
            phase, mine = BACKWARD, component != UNATTRIBUTED
        if top is not None:
            ready = event.name.startswith(NODE) and not top.mine
            _count(found, top, event.start_ns, (component, phase) if ready else None)
        if not event.name.startswith((RANGE, STEP, NODE)):
            call = Call(
                event.name,
                len(found.step_ns) - 1,
                phase,
                component,
                event.start_ns,
                event.end_ns - event.start_ns,
                len(stack),
            )
            found.calls.append(call)
        stack.append(_Open(event, component, phase, mine, event.start_ns))
    _close(stack, None, found)
    return found


def _close(stack: list[_Open], until: int | None, found: Swept) -> None:
    while stack and (until is None or stack[-1].event.end_ns <= until):
        gone = stack.pop()
        end = gone.event.end_ns
        _count(found, gone, end)
        if stack:
            stack[-1].since = max(end, stack[-1].since)


def _count(found: Swept, top: _Open, end: int, instead: tuple[str, str] | None = None) -> None:
    """Count the time since the last look as of whoever is on top, or of another component and phase."""
    if end > top.since:
        key = instead or (top.component if top.mine else UNATTRIBUTED, top.phase)
        found.ns[key] = found.ns.get(key, 0) + end - top.since
        top.since = end


def outermost(calls: Iterable[Call], known: set[str]) -> Iterator[Call]:
    """Yield the calls with a known name that run in no other such call."""
    inside = 0
    for call in calls:
        if call.name in known and call.start_ns >= inside:
            inside = call.start_ns + call.dur_ns
            yield call
