"""From what a search file says to the landscape that is searched."""

from __future__ import annotations

import numpy as np

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import open_architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.search.known import KnownLandscape, known_landscape
from hybridlab.search.landscape import (
    TIMED,
    Array,
    Landscape,
    empty_space,
    signs,
    within,
)
from hybridlab.search.pareto import nearest_miss
from hybridlab.search.space import Codes
from hybridlab.search.spec import SearchSpec

_DESCENTS = 24
"""Steps towards a limit that no hand design keeps."""


def landscape_of(spec: SearchSpec, text: str = "") -> Landscape:
    """Return the landscape of a search; ``text`` is the architecture where it is not to be read from its file.

    Raises:
        SpecError: nothing varies, a node or key is unknown, or a limit is on no objective.
        TaskError: the task is unknown or does not fit.
        RunError: the table of trained hybrids is not there.
    """
    if spec.architecture is not None:
        from hybridlab.search.trained import (
            TrainedLandscape,  # it needs torch; the others do not
        )

        trained = TrainedLandscape(
            spec, loads(text) if text else open_architecture(str(spec.architecture))
        )
        problems = empty_space(trained.space.choices) + _unknown_limits(trained)
        least = trained.limits.get(trained.metric, 0.0)
        if trained.task.measure == "accuracy" and not 0 <= least <= 1:
            words = "is beyond what an accuracy can be, so no design keeps it"
            problems.append(Problem(f"limits.{trained.metric}", words, "0 to 1", f"{least:g}"))
        for name in trained.timed:
            most = trained.limits.get(name, 1.0)
            if TIMED[name].direction == "minimize" and most <= 0:
                words = "is less than anything takes, so no design keeps it"
                problems.append(Problem(f"limits.{name}", words, "above 0", f"{most:g}"))
        if problems:
            raise SpecError(problems)
        _reachable_limits(trained)
        return trained
    landscape = known_landscape(spec)
    problems = empty_space(landscape.space.choices) + _unknown_limits(landscape)
    if problems:
        raise SpecError(problems)
    _possible_limits(landscape)
    return landscape


def _unknown_limits(landscape: Landscape) -> list[Problem]:
    names = [objective.name for objective in landscape.objectives]
    return [
        Problem(f"limits.{name}", "is not an objective", "one of " + ", ".join(names), repr(name))
        for name in landscape.limits
        if name not in names
    ]


def _reachable_limits(landscape: Landscape) -> None:
    """Refuse limits that no design keeps by its predicted cost, as far as a descent from the hand designs tells."""
    predicted = {one.name for one in landscape.objectives if one.predicted} & set(landscape.limits)
    if not predicted:
        return
    space = landscape.space
    rows = landscape.repaired(space.codes(landscape.hand_designs()))
    rows = np.unique(rows[(rows >= 0).all(axis=1)], axis=0)
    for _ in range(_DESCENTS):
        values = landscape.prices(rows)
        rows, values = rows[~np.isinf(values).any(axis=1)], values[~np.isinf(values).any(axis=1)]
        if not len(rows):
            raise SpecError(Problem("search", "no design was found that can be built"))
        if within(landscape, values).any():
            return
        nearest, missed = _nearest(landscape, values, predicted)
        near = [rows[[nearest]]]
        for place, size in enumerate(space.sizes):
            for step in (-1, 1):
                at = int(rows[nearest, place]) + step
                if 0 <= at < size:
                    other = rows[[nearest]].copy()
                    other[0, place] = at
                    near.append(other)
        tried = landscape.repaired(np.concatenate(near))
        tried = np.unique(tried[(tried >= 0).all(axis=1)], axis=0)
        better, _ = _nearest(landscape, landscape.prices(tried), predicted)
        if (tried[better] == rows[nearest]).all():
            break
        rows = tried
    reached = float(values[nearest, missed])
    name = landscape.objectives[missed].name
    raise SpecError(
        Problem(
            f"limits.{name}",
            "no design of the space was found that keeps this limit and the others",
            f"{landscape.limits[name]:g}",
            f"{reached:g} at the nearest, {_words(landscape, rows[nearest])}",
            "raise the limit, or let smaller designs vary",
        )
    )


def _nearest(landscape: Landscape, values_NM: Array, names: set[str]) -> tuple[int, int]:
    """Return which design misses the limits on some objectives by least, and the objective that it misses most."""
    turned = signs(landscape)
    columns = [one.name for one in landscape.objectives]
    limits = {
        columns.index(name): float(turned[columns.index(name)] * landscape.limits[name])
        for name in names
    }
    return nearest_miss(values_NM * turned, limits)


def _words(landscape: Landscape, row_P: Codes) -> str:
    return ", ".join(f"{name} {value}" for name, value in landscape.space.design(row_P).items())


def _possible_limits(landscape: KnownLandscape) -> None:
    """Refuse limits that no design keeps, and name the nearest."""
    if not landscape.limits:
        return
    front = landscape.true_front()
    if within(landscape, front).any():
        return
    turned = signs(landscape)
    names = [objective.name for objective in landscape.objectives]
    limits = {
        names.index(name): float(turned[names.index(name)] * limit)
        for name, limit in landscape.limits.items()
    }
    nearest, column = nearest_miss(front * turned, limits)
    raise SpecError(
        Problem(
            f"limits.{names[column]}",
            "no design keeps this limit and the others",
            f"{landscape.limits[names[column]]:g}",
            f"{front[nearest, column]:g} at the nearest",
            "raise the limit",
        )
    )
