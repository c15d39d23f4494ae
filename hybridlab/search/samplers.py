"""Samplers by name: ours, and Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from hybridlab.errors import Problem, SpecError
from hybridlab.search.cost_aware import ROUNDS, CostAware
from hybridlab.search.landscape import Landscape
from hybridlab.search.space import Space, Value

DEFAULT = "cost_aware"


class _Grid(optuna.samplers.GridSampler):
    """Optuna's grid for ask and tell: its own asks ``study.optimize`` to stop, of which there is none."""

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; ``study.search`` stops where the grid is done."""


def _grid(landscape: Landscape, seed: int, trials: int) -> BaseSampler:
    return _Grid(coarse_grid(landscape.space, trials), seed=seed)


SAMPLERS: dict[str, Callable[[Landscape, int, int], BaseSampler]] = {
    "cost_aware": lambda landscape, seed, trials: CostAware(landscape, seed),
    "tpe": lambda landscape, seed, trials: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda landscape, seed, trials: optuna.samplers.NSGAIISampler(seed=seed),
    "nsga3": lambda landscape, seed, trials: optuna.samplers.NSGAIIISampler(seed=seed),
    "random": lambda landscape, seed, trials: optuna.samplers.RandomSampler(seed=seed),
    "grid": _grid,
}
"""What makes a sampler from a landscape, a seed and the number of trials (which sets how fine a grid is)."""


def make_sampler(
    name: str, landscape: Landscape, *, seed: int = 0, trials: int = 100
) -> BaseSampler:
    """Return a sampler.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in SAMPLERS:
        from hybridlab.components.base import nearest  # it needs torch; no sampler does

        raise SpecError(
            Problem(
                "sampler",
                f"there is no sampler called {name!r}",
                "one of " + ", ".join(SAMPLERS),
                repr(name),
                nearest(name, list(SAMPLERS)),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](landscape, seed, trials)


def priced_for_one(name: str, landscape: Landscape) -> int:
    """Return how many designs a sampler has priced before it proposes one: many by ours, else the one alone."""
    return landscape.pool + (ROUNDS - 1) * (landscape.pool // 4) if name == DEFAULT else 1


def coarse_grid(space: Space, trials: int) -> dict[str, list[Value]]:
    """Return a grid of at most so many designs: values evenly from first to last, about as many of each choice.

    A whole grid of most spaces could neither be run nor held in memory.
    """
    taken = np.ones(len(space.choices), dtype=np.int64)
    grew = True
    while grew:
        grew = False
        for place, choice in enumerate(space.choices):
            more = taken.copy()
            more[place] += 1
            if more[place] <= len(choice.values) and float(np.prod(more.astype(float))) <= trials:
                taken, grew = more, True
    return {
        choice.name: [
            choice.values[int(at)]
            for at in np.linspace(0, len(choice.values) - 1, int(count)).round()
        ]
        for choice, count in zip(space.choices, taken, strict=True)
    }
