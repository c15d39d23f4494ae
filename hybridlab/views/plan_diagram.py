"""An architecture's diagram with a plan: which components are kept and which are computed again in backward."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hybridlab.architecture.spec import Architecture
from hybridlab.planning.record import Plan
from hybridlab.views.diagram import Box, DiagramInfo

_NUMBERS = re.compile(r"\.\d+(?=\.|$)|#\d+$")
"""Which repeat of a group, and which time in a tied one, a component's name leads through."""


def node_path(name: str) -> str:
    """Return the path of ids that a component of a plan is drawn at: all repeats of a group are one box."""
    return _NUMBERS.sub("", _NUMBERS.sub("", name).partition(" ")[0])


def again_of(plan: Plan) -> dict[str, tuple[int, int]]:
    """Return how often each node is computed again and how often it runs, by path of ids; norms of groups aside."""
    again = set(plan.recomputed)
    found: dict[str, tuple[int, int]] = {}
    for name in plan.components:
        if " " in name:
            continue
        times, of = found.get(node_path(name), (0, 0))
        found[node_path(name)] = times + (name in again), of + 1
    return found


def plan_diagram(info: DiagramInfo, architecture: Architecture, plan: Plan) -> DiagramInfo:
    """Return a diagram whose boxes say, in words and by their colour, what a plan does with them."""
    ids = {path: names for path, names, _ in architecture.walk()}
    found = again_of(plan)
    away = Counter(node_path(name) for name in plan.offload if " " not in name)
    lossy = "" if plan.exact else ", in bfloat16 (lossy)"
    held = {node_path(name): why for name, why in plan.kept_because.items()}

    def shown(box: Box) -> Box:
        name = ids.get(box.path, box.path.removeprefix("task."))
        if box.kind == "group" or name not in found:
            return box
        times, of = found[name]
        made = _told(box, times, of, held.get(name, ""))
        if not (gone := away[name]):
            return made
        where = f"kept for backward in {plan.shelf}{lossy}, out of memory until then"
        if times:
            told = f"{made.told}; {gone} of {of} times {where}"
            return replace(made, detail=f"{made.detail}, offloaded: {gone}", told=told)
        words = "offloaded" if gone == of else f"offloaded: {gone} of {of}"
        return replace(made, detail=words, told=where, tint=gone / of, hue="away")

    return replace(info, boxes=tuple(map(shown, info.boxes)))


def _told(box: Box, times: int, of: int, why: str) -> Box:
    if not times:
        told = f"kept for backward: {why}" if why else "kept for backward"
        return replace(box, detail="kept", told=told, tint=0.0, supplied=False)
    words = "computed again" if times == of else f"again: {times} of {of}"
    told = f"computed again in backward, {times} of {of} times that it runs"
    return replace(box, detail=words, told=told, tint=times / of, supplied=False)


def told_apart(plan: Plan) -> Mapping[str, str]:
    """Return what happens to each component by name: kept, offloaded, or computed again and in which run."""
    runs = {
        name: f"again, run {number}" for number, run in enumerate(plan.recompute, 1) for name in run
    }
    runs |= dict.fromkeys(plan.offload, "offloaded")
    return {name: runs.get(name, "kept") for name in plan.components}
