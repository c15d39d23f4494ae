"""What the loads of a run's experts say: a router that has collapsed, and one expert that has far more to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hybridlab.training import offers
from hybridlab.training.flow import Flow, Part
from hybridlab.training.flow_finding import FlowFinding
from hybridlab.training.streaks import streak_of

IDLE_EXPERT, IDLE_SHARE = 0.1, 0.5
"""A router has collapsed where half of the experts get under a tenth of an even share each."""
CROWDED = 1.3
"""Largest over mean load of experts from which on it is remarked on: where experts run beside each other, all wait for
the busiest. The usual balance loss of 0.01 leaves 1.33 to 1.41 here, ten times that 1.10 to 1.25 (docs/lab-log.md)."""


def of_routers(flow: Flow, own: set[str]) -> Iterator[FlowFinding]:
    """Yield what the loads show; ``own`` are the paths of ids that remedies may change."""
    for part in flow.parts:
        loads = flow.loads.get(part.path, {})
        idle = {
            step: sum(share < IDLE_EXPERT / len(load) for share in load) / len(load)
            for step, load in loads.items()
            if len(load) > 1
        }
        if (streak := streak_of(idle, lambda share: share >= IDLE_SHARE)) is not None:
            load = loads[streak.last]
            few = sum(share < IDLE_EXPERT / len(load) for share in load)
            yield FlowFinding(
                "collapsed",
                f"{part.path}: the router has collapsed, {few} of {len(load)} experts get under a tenth of an even "
                f"share {streak.words()} (measured)",
                "warning",
                (part.path,),
                "router_entropy",
                {
                    "idle_experts": few,
                    "experts": len(load),
                    "largest_share": max(load),
                    **streak.evidence(),
                },
                tuple(offers.against_collapse(part, part.ids in own)),
            )
        elif part.use == "moe":
            yield from _crowded(part, loads, own)


def _crowded(
    part: Part, loads: Mapping[int, tuple[float, ...]], own: set[str]
) -> Iterator[FlowFinding]:
    """Tell that one expert has far more to do than the mean of all, over the last measurements."""
    over = {step: max(load) * len(load) / sum(load) for step, load in loads.items() if sum(load)}
    if (streak := streak_of(over, lambda times: times > CROWDED)) is None:
        return
    load = loads[streak.last]
    yield FlowFinding(
        "crowded",
        f"{part.path}: the busiest of {len(load)} experts gets {streak.value:.2f} times the mean load {streak.words()} "
        "(measured); experts that run beside each other wait for it",
        "hint",
        (part.path,),
        "router_entropy",
        {
            "max_over_mean": streak.value,
            "experts": len(load),
            "busiest": load.index(max(load)),
            **streak.evidence(),
        },
        tuple(offers.against_crowding(part, part.ids in own)),
    )
