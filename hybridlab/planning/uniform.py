"""Plans by count alone, as people write them by hand: what the planner's curve is held against. Free of torch."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence

Spans = tuple[tuple[int, int], ...]
"""The first and the last place of each run that is computed again, both included."""


def uniform_plans(names: Sequence[str], held: Collection[int]) -> dict[str, Spans]:
    """Return the plans that compute again by count alone, by what they do.

    ``names`` are those of a step's components in running order; ``held`` are the places that must be kept.
    """
    count = len(names)
    plans: dict[str, Spans] = {"plain": ()}
    for each in range(1, count + 1):
        runs = [(at, min(at + each, count) - 1) for at in range(0, count, each)]
        plans[f"runs of {each}"] = cut(runs, held)
        plans[f"runs of {each} but the last"] = cut(runs[:-1], held)
    for each in (2, 3, 4):
        for at in range(each):
            alone = [(place, place) for place in range(at, count, each)]
            plans[f"every {each} from {at}"] = cut(alone, held)
    depth = max(name.count(".") for name in names)
    for deep in range(1, depth + 1):
        whole = [
            [place for place, _ in group]
            for _, group in itertools.groupby(
                enumerate(names), key=lambda one: one[1].split(".")[: deep + 1]
            )
        ]
        plans[f"repeats at depth {deep}"] = cut([(g[0], g[-1]) for g in whole], held)
    return plans


def cut(wanted: Iterable[tuple[int, int]], held: Collection[int]) -> Spans:
    """Return runs without the places that must be kept."""
    found: list[tuple[int, int]] = []
    for first, last in wanted:
        start = None
        for place in range(first, last + 2):
            if place > last or place in held:
                if start is not None:
                    found.append((start, place - 1))
                start = None
            elif start is None:
                start = place
    return tuple(found)
