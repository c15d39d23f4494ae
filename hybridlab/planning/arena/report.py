"""What of a pass lies in its arena and what does not, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.planning.arena.calls import BY_ITSELF, Recording
from hybridlab.planning.arena.offsets import Placement
from hybridlab.planning.arena.program import Pieces
from hybridlab.units import format_bytes


@dataclass(frozen=True)
class Outside:
    """Calls of one operator in one component whose results the allocator places in each pass."""

    component: str
    op: str
    why: str
    ops: int
    bytes: int


@dataclass(frozen=True)
class ArenaReport:
    """A planned pass in figures; ``made_bytes`` are those of all tensors that it makes, counted once each.

    ``bound_bytes`` is the largest sum of bytes in the arena that are needed at once: no placement takes less.
    """

    arena_bytes: int
    bound_bytes: int
    made_bytes: int
    inside_bytes: int
    inside_ops: int
    making_ops: int
    method: str
    plan_ms: float
    outside: tuple[Outside, ...]
    notes: tuple[str, ...]

    @property
    def over_bound(self) -> float:
        """The share by which the arena is larger than the bound."""
        return self.arena_bytes / self.bound_bytes - 1 if self.bound_bytes else 0.0

    def sentence(self) -> str:
        """Say how much runs inside, in one sentence."""
        return (
            f"{self.inside_ops} of {self.making_ops} operators that make tensors write to the arena of "
            f"{format_bytes(self.arena_bytes)} ({self.over_bound:.1%} above the least), "
            f"{format_bytes(self.inside_bytes)} of {format_bytes(self.made_bytes)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {**asdict(self), "over_bound": self.over_bound}


def report_of(
    recording: Recording,
    pieces: Pieces,
    placement: Placement,
    plan_ms: float,
    notes: tuple[str, ...] = (),
) -> ArenaReport:
    """Count what lies inside and outside."""
    inside = set(pieces.storages)
    found: dict[tuple[str, str, str], list[int]] = {}
    made_bytes = inside_ops = making_ops = 0
    for call in recording.calls:
        if not call.made:
            continue
        size = sum(recording.bytes[storage] for storage in call.made)
        made_bytes, making_ops = made_bytes + size, making_ops + 1
        if set(call.made) <= inside:
            inside_ops += 1
            continue
        mine = found.setdefault((call.component, call.name, call.why), [0, 0])
        mine[0] += 1
        mine[1] += size
    outside = sorted(
        (Outside(*key, ops, size) for key, (ops, size) in found.items()),
        key=lambda one: -one.bytes,
    )
    alone = dict.fromkeys(one.component for one in outside if one.why == BY_ITSELF)
    said = tuple(f"{path}: {BY_ITSELF}; what it makes inside is not counted" for path in alone)
    inputs = sum(recording.bytes[value.storage] for value in recording.inputs)
    return ArenaReport(
        placement.arena_bytes,
        placement.bound_bytes,
        made_bytes + inputs,
        placement.separate_bytes,
        inside_ops,
        making_ops,
        placement.method,
        plan_ms,
        tuple(outside),
        (*notes, *said),
    )
