"""The cheapest choice over a graph whose costs are tables of a few choices each: exact, one choice at a time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What each combination of some choices costs, by their options in the order of ``names``."""

    names: tuple[str, ...]
    costs: Mapping[tuple[str, ...], float]


def cheapest(
    options: Mapping[str, Sequence[str]], tables: Sequence[Table]
) -> tuple[float, dict[str, str]]:
    """Return the least sum of all tables and the choices that give it; of equal ones the option named first.

    Choices are taken out one by one, those first that the fewest others meet: a table of what is best for it, whatever
    those others are, stands in their place. Chains and trees take time linear in their length; a graph takes as many
    combinations as values cross its widest border.

    Args:
        options: by the name of each choice what it can be.
        tables: whose names are all in ``options``.
    """
    left = list(tables)
    taken: list[tuple[str, tuple[str, ...], dict[tuple[str, ...], str]]] = []
    waiting = list(options)
    while waiting:
        name = min(waiting, key=lambda one: len(_meets(one, left)))
        waiting.remove(name)
        mine = [table for table in left if name in table.names]
        others = tuple(sorted(_meets(name, left)))
        best: dict[tuple[str, ...], str] = {}
        costs: dict[tuple[str, ...], float] = {}
        for combination in itertools.product(*(options[one] for one in others)):
            known = dict(zip(others, combination, strict=True))
            sums = {one: _sum(mine, {**known, name: one}) for one in options[name]}
            best[combination] = min(sums, key=lambda one: sums[one])
            costs[combination] = sums[best[combination]]
        left = [table for table in left if name not in table.names] + [Table(others, costs)]
        taken.append((name, others, best))
    chosen: dict[str, str] = {}
    for name, others, best in reversed(taken):
        chosen[name] = best[tuple(chosen[one] for one in others)]
    return sum(table.costs[()] for table in left), chosen


def _meets(name: str, tables: Sequence[Table]) -> set[str]:
    """Return the choices that stand in a table with this one."""
    return {one for table in tables if name in table.names for one in table.names} - {name}


def _sum(tables: Sequence[Table], chosen: Mapping[str, str]) -> float:
    return sum(table.costs[tuple(chosen[one] for one in table.names)] for table in tables)
