"""What a run's gradient flow says, in sentences: vanishing, exploding, starving, dead, saturated, collapsed.

Each finding has its numbers, the components, and remedies. Thresholds are here (those of routers in
``router_findings``) and stand well outside of what the 23 presets show over their first steps on the digits: largest
over smallest gradient 6 to 50 (one 189), a component against its neighbours 1/37 to 36, dead units up to .2, saturated
gates up to .2, update ratios 4e-4 to .017.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from hybridlab.architecture.spec import Architecture
from hybridlab.training import offers
from hybridlab.training.flow import Flow, Part, branches
from hybridlab.training.flow_finding import FlowFinding, Kind
from hybridlab.training.remedies import Remedy
from hybridlab.training.router_findings import of_routers
from hybridlab.training.streaks import Streak, streak_of

UNEVEN = 300.0
"""Largest over smallest gradient of a network from which on it is remarked on: above all presets, the worst at 189."""
BROKEN = 1000.0
"""From here on it is a warning: what differs by three orders of magnitude does not learn together at one rate."""
APART = 100.0
"""A component against the mean of its neighbours; presets stay below 37 either way."""
OUTSIDE = 10.0
"""And against the middle of the whole network: else the neighbours of an outlier would seem to be outliers too."""
STARVED = 100.0
"""One branch of a join against the others, which see the same loss through the same sum."""
DEAD = 0.5
"""Half of the units do nothing: the layer has lost half of its width."""
SATURATED = 0.5
"""Half of a component's gate values let less than a twentieth of the gradient through."""
RESTLESS, STILL = 0.1, 1e-6
"""An update that moves weights by a tenth of their norm undoes what was learned; below a millionth they stand still.
About a thousandth is usual."""
NEIGHBOURS = 2
"""Components on either side, in running order, that a component is compared with."""
TREND = 30.0
"""Gradients vanish or explode along the depth where the first third of the mixers differs from the last so much: the
square root of what is broken."""

ALONG = 0.6
"""And where their order along the depth explains it: the rank correlation from which on it is no single component."""

_MIXERS = ("token_mixer", "channel_mixer")


def findings(flow: Flow, architecture: Architecture) -> tuple[FlowFinding, ...]:
    """Return what a flow shows, warnings first; ``architecture`` is the run's own text, which remedies change.

    What holds at fewer than ``streaks.LEAST_SAMPLES`` measurements in a row up to the last one is not told.
    """
    own = {ids for _, ids, _ in architecture.walk()}
    joins = [part.ids for part in flow.parts if part.kind == "merge" and part.ids in own]
    joined = {
        ids for join in joins for held in branches(architecture, join).values() for ids in held
    }
    along = list(_along_depth(flow, own, joined))
    found = [
        *along,
        *_apart(flow, own, covered=bool(along) and along[0].kind != "uneven"),
        *_starving(flow, architecture, own),
        *_cut_off(flow),
        *_high(flow, own, "dead_share", DEAD, "dead", offers.against_dead),
        *_high(flow, own, "saturated_share", SATURATED, "saturated", offers.against_saturated),
        *of_routers(flow, own),
        *_updates(flow, own),
    ]
    return tuple(sorted(found, key=lambda item: item.severity != "warning"))


def _gradients(flow: Flow) -> list[tuple[Part, Mapping[int, float]]]:
    curves = flow.curves.get("grad_norm", {})
    return [(part, curves[part.path]) for part in flow.parts if part.path in curves]


def _along_depth(flow: Flow, own: set[str], joined: set[str]) -> Iterator[FlowFinding]:
    """Compare the whole network: its largest with its smallest gradient, and the first mixers with the last."""
    ratios = flow.ratios()
    streak = streak_of(ratios, lambda ratio: ratio >= UNEVEN)
    if streak is None:
        return
    every = _gradients(flow)
    levels = {
        part.path: statistics.median(
            value for step, value in curve.items() if value > 0 and step >= streak.first
        )
        for part, curve in every
        if any(value > 0 and step >= streak.first for step, value in curve.items())
    }
    mixers = [part for part, _ in every if part.kind in _MIXERS and part.path in levels]
    third = max(1, len(mixers) // 3)
    trend = _trend([levels[part.path] for part in mixers], third)
    low, high = min(levels, key=levels.__getitem__), max(levels, key=levels.__getitem__)
    kind: Kind = "vanishing" if trend >= TREND else "exploding" if trend <= 1 / TREND else "uneven"
    ends = {
        "vanishing": "Gradients vanish towards the input",
        "exploding": "Gradients explode towards the input",
        "uneven": "Gradients are uneven",
    }
    yield FlowFinding(
        kind,
        f"{ends[kind]}: that of {low} is {_times(streak.value)} times smaller than that of {high} "
        f"{streak.words()} (measured)",
        "warning" if streak.value >= BROKEN else "hint",
        tuple(part.path for part in mixers[:third]) if kind != "uneven" else (low, high),
        "grad_norm",
        {
            "ratio": streak.value,
            "smallest": levels[low],
            "largest": levels[high],
            "last_over_first_third": trend,
            **streak.evidence(),
        },
        tuple(offers.along_depth(kind, [p for p in mixers if p.ids in own], joined)),
    )


def _trend(levels: Sequence[float], third: int) -> float:
    """Return the last third's gradients over the first's; 1 where they do not rise or fall along the depth."""
    if len(levels) < 3 or len(set(levels)) == 1:
        return 1.0
    logs = list(map(math.log, levels))
    ranks = [sum(other < level for other in logs) for level in logs]
    if abs(statistics.correlation(range(len(logs)), ranks)) < ALONG:
        return 1.0
    return math.exp(statistics.fmean(logs[-third:]) - statistics.fmean(logs[:third]))


def _apart(flow: Flow, own: set[str], *, covered: bool) -> Iterator[FlowFinding]:
    """Compare each component with its neighbours; where the whole depth is at fault, that says it all."""
    if covered:
        return
    every = _gradients(flow)
    middle = {
        step: statistics.median(curve[step] for _, curve in every if step in curve)
        for step in flow.steps("grad_norm")
    }
    apart: dict[tuple[str, bool], list[tuple[Part, Streak]]] = {}
    for place, (part, curve) in enumerate(every):
        near = [
            other for index, (_, other) in enumerate(every) if 0 < abs(index - place) <= NEIGHBOURS
        ]
        against = {}
        for step, value in curve.items():
            others = [other[step] for other in near if other.get(step, 0.0) > 0]
            if others and value > 0:
                times = value / math.exp(statistics.fmean(map(math.log, others)))
                usual = middle[step] / OUTSIDE < value < middle[step] * OUTSIDE
                against[step] = 1.0 if usual else times
        for small in (True, False):
            streak = streak_of(against, lambda t, s=small: t <= 1 / APART if s else t >= APART)  # type: ignore[misc]
            if streak is not None:
                apart.setdefault((part.ids, small), []).append((part, streak))
    for (_, small), mine in apart.items():
        (part, streak), paths = mine[0], [part.path for part, _ in mine]
        times = 1 / streak.value if small else streak.value
        gradient = statistics.median(
            flow.curves["grad_norm"][part.path][s] for s in flow.curves["grad_norm"][part.path]
        )
        kind: Kind = "vanishing" if small else "exploding"
        remedies = offers.against_small if small else offers.against_large
        yield FlowFinding(
            kind,
            f"{together(paths, part.ids)}: gradient {_times(times)} times {'smaller' if small else 'larger'} than its "
            f"neighbours' {streak.words()} (measured)",
            "warning",
            tuple(paths),
            "grad_norm",
            {
                "times": times,
                "gradient": gradient,
                "neighbours": gradient / streak.value,
                **streak.evidence(),
            },
            tuple(
                remedies(part, together(paths, part.ids), gradient / streak.value, part.ids in own)
            ),
        )


def _starving(flow: Flow, architecture: Architecture, own: set[str]) -> Iterator[FlowFinding]:
    """Compare the branches that meet at each join, over all repeats."""
    for join in {part.ids: part for part in flow.parts if part.kind == "merge"}.values():
        if join.ids not in own:
            continue
        held = branches(architecture, join.ids)
        curves = {name: _norm_of(flow, ids) for name, ids in held.items()}
        curves = {name: curve for name, curve in curves.items() if any(curve.values())}
        steps = set.intersection(*map(set, curves.values())) if len(curves) > 1 else set()
        if not steps:
            continue
        last = max(steps)
        poor, rich = (pick(curves, key=lambda name: curves[name][last]) for pick in (min, max))
        times = {
            step: curves[rich][step] / curves[poor][step] for step in steps if curves[poor][step]
        }
        streak = streak_of(times, lambda times: times >= STARVED)
        if streak is None:
            continue
        starved = [part for part in flow.parts if part.ids in held[poor]]
        yield FlowFinding(
            "starving",
            f"The branch of {poor} starves at {join.ids}: its gradient is {_times(streak.value)} times smaller than "
            f"that of the branch of {rich} {streak.words()} (measured)",
            "warning",
            tuple(part.path for part in starved),
            "grad_norm",
            {"times": streak.value, "join": join.ids, "richest": rich, **streak.evidence()},
            tuple(
                offers.against_starving(
                    join, list(dict.fromkeys(part.ids for part in starved)), join.ids in own
                )
            ),
        )


def _norm_of(flow: Flow, ids: Iterable[str]) -> dict[int, float]:
    """Return the gradient norm of several components together, over all repeats, by step."""
    wanted = set(ids)
    squares: dict[int, float] = {}
    for part, curve in _gradients(flow):
        if part.ids in wanted:
            for step, value in curve.items():
                squares[step] = squares.get(step, 0.0) + value * value
    return {step: math.sqrt(square) for step, square in squares.items()}


def _cut_off(flow: Flow) -> Iterator[FlowFinding]:
    """Tell components whose gradient is exactly zero: nothing of the loss reaches them."""
    cut = [
        (part, streak)
        for part, curve in _gradients(flow)
        if (streak := streak_of(curve, lambda value: value == 0.0)) is not None
    ]
    if cut:
        paths = [part.path for part, _ in cut]
        shown = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
        yield FlowFinding(
            "cut off",
            f"No gradient at all reaches {shown} {cut[0][1].words()} (measured): nothing that the loss sees depends "
            "on them, or a zero stands behind them",
            "warning",
            tuple(paths),
            "grad_norm",
            {"components": len(paths), **cut[0][1].evidence()},
        )


def _high(
    flow: Flow,
    own: set[str],
    quantity: str,
    line: float,
    kind: Literal["dead", "saturated"],
    remedies: Callable[[Part, str, bool], Iterator[Remedy]],
) -> Iterator[FlowFinding]:
    words = {"dead": "of its units are dead", "saturated": "of its gate values are saturated"}
    high: dict[str, list[tuple[Part, Streak]]] = {}
    for part in flow.parts:
        curve = flow.curves.get(quantity, {}).get(part.path, {})
        if (streak := streak_of(curve, lambda share: share >= line)) is not None:
            high.setdefault(part.ids, []).append((part, streak))
    for ids, mine in high.items():
        (part, streak), paths = mine[0], [part.path for part, _ in mine]
        share = max(streak.value for _, streak in mine)
        yield FlowFinding(
            kind,
            f"{together(paths, ids)}: {100 * share:.0f} % {words[kind]} {streak.words()} (measured)",
            "warning",
            tuple(paths),
            quantity,
            {"share": share, **streak.evidence()},
            tuple(remedies(part, together(paths, ids), ids in own)),
        )


def _updates(flow: Flow, own: set[str]) -> Iterator[FlowFinding]:
    """Tell components whose updates are far too large or too small for what they change."""
    apart: dict[tuple[str, bool], list[tuple[Part, Streak]]] = {}
    for part in flow.parts:
        curve = flow.curves.get("update_ratio", {}).get(part.path, {})
        for large in (True, False):
            streak = streak_of(curve, lambda r, b=large: r >= RESTLESS if b else 0 < r <= STILL)  # type: ignore[misc]
            if streak is not None:
                apart.setdefault((part.ids, large), []).append((part, streak))
    for (ids, large), mine in apart.items():
        paths, streak = [part.path for part, _ in mine], mine[0][1]
        what = "moves it by" if large else "moves it by only"
        yield FlowFinding(
            "restless" if large else "still",
            f"{together(paths, ids)}: every update {what} {streak.value:.2g} of its weights' norm {streak.words()} "
            "(measured); about 0.001 is usual",
            "hint",
            tuple(paths),
            "update_ratio",
            {"update_ratio": streak.value, **streak.evidence()},
            tuple(offers.against_updates(together(paths, ids), large)),
        )


def together(paths: Sequence[str], ids: str) -> str:
    """Write one component by its path, and several repeats of one by the path without their numbers."""
    return paths[0] if len(paths) == 1 else ids


def _times(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"
