"""Which trainings go on: successive halving over the front, for several objectives at once.

After a few steps, and a few times as many again (the rungs), a trial is compared with every other at the same number of
steps, by its measured value there and its predicted prices. It goes on if it is among the best ``1/eta`` of them: layer
by layer of the front, and within a layer by how much hypervolume it alone covers; the first few go on in any case.
Each decides as soon as it arrives and waits for nobody (https://arxiv.org/abs/1810.05934). Optuna prunes by one
objective only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import numpy as np
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hybridlab.search.pareto import Array, hypervolume, non_dominated, scaled

PRICES = "prices"
"""The trial's attribute with what its objectives were predicted to be, null for the measured one."""
RUNGS = "rungs"
"""The trial's attribute with its measured value by step: Optuna's own intermediate values break its TPE, which asks a
study of several objectives for its one direction as soon as a trial that has some is stopped."""
_EXACT_AMONG = 64
"""Points of a layer up to which shares of the hypervolume are worked out; a larger one is ranked by its spread."""


def rungs_of(steps: int, eta: int, rungs: int) -> tuple[int, ...]:
    """Return after how many steps trials are compared, growing by ``eta``, each below ``steps``."""
    first = max(1, round(steps / eta**rungs))
    return tuple(first * eta**k for k in range(rungs) if first * eta**k < steps)


def goes_on(points_NM: Array, mine: int, eta: int) -> bool:
    """Say whether one of N points, every value to be made small, is among the best ``1/eta``, or the best ``eta``."""
    return mine in best_first(points_NM)[: max(eta, math.ceil(len(points_NM) / eta))]


def best_first(points_NM: Array) -> list[int]:
    """Return the points' places: layer by layer of the front, and within a layer by what each alone covers."""
    left = np.flatnonzero(~np.isnan(points_NM).any(axis=1))
    order: list[int] = []
    while len(left):
        layer = left[non_dominated(points_NM[left])]
        shares = _alone(points_NM[layer])
        order += [int(layer[at]) for at in np.argsort(-shares, kind="stable")]
        left = np.setdiff1d(left, layer)
    return order


def at_rung(trials: Sequence[FrozenTrial], step: int, signs_M: Array) -> tuple[Array, list[int]]:
    """Return the trials that have come to a rung as points, every value to be made small, and their numbers."""
    points, numbers = [], []
    for one in trials:
        prices = one.user_attrs.get(PRICES)
        value = dict(one.user_attrs.get(RUNGS) or {}).get(str(step))
        if prices is not None and value is not None and len(prices) == len(signs_M):
            points.append(_filled(prices, value, 0.0))
            numbers.append(one.number)
    made = np.array(points, dtype=np.float64).reshape(len(points), len(signs_M))
    return made * signs_M, numbers


def judge(study: Study, number: int, step: int, value: float, eta: int) -> bool:
    """Note a trial's value at a rung, and say whether it goes on; a trial without prices always does."""
    storage = study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    before = dict(storage.get_trial_user_attrs(trial_id).get(RUNGS) or {})
    with contextlib.suppress(UpdateFinishedTrialError):  # told by one that thought its worker dead
        storage.set_trial_user_attr(trial_id, RUNGS, {**before, str(step): value})
    signs = np.array([1.0 if one.name == "MINIMIZE" else -1.0 for one in study.directions])
    points, numbers = at_rung(study.get_trials(deepcopy=False), step, signs)
    return number not in numbers or goes_on(points, numbers.index(number), eta)


def foreseen(trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], Array]:
    """Return the trials that were stopped and what they would have come to, (K, M), as their objectives are told.

    A stopped trial's first measured value is its last one, plus what trials that ran through have gained since that
    rung in the mean; others that are measured are NaN. Nothing is known of a trial without prices or values.
    """
    gained: dict[str, list[float]] = {}
    for one in trials:
        prices = one.user_attrs.get(PRICES)
        if one.state is TrialState.COMPLETE and prices is not None and None in prices:
            final = one.values[prices.index(None)]
            for step, value in dict(one.user_attrs.get(RUNGS) or {}).items():
                gained.setdefault(step, []).append(final - value)
    known, rows = [], []
    for one in trials:
        prices, told = one.user_attrs.get(PRICES), dict(one.user_attrs.get(RUNGS) or {})
        if one.state is not TrialState.PRUNED or not told or prices is None:
            continue
        step = max(told, key=int)
        end = told[step] + (float(np.mean(gained[step])) if step in gained else 0.0)
        known.append(one)
        rows.append(_filled(prices, end, math.nan))
    return known, np.array(rows, dtype=np.float64)


def _filled(prices: Sequence[float | None], measured: float, others: float) -> list[float]:
    """Return prices with the first that is missing measured, and further ones, such as energy, as ``others``."""
    filled = [others if price is None else float(price) for price in prices]
    if None in prices:
        filled[prices.index(None)] = measured
    return filled


def _alone(points_KM: Array) -> Array:
    """Return how much hypervolume each point of a layer covers that no other does, (K), on one scale."""
    unit = scaled(points_KM)
    K = len(unit)
    if K > _EXACT_AMONG:
        gaps = np.full(K, np.inf)
        for column in unit.T:
            order = np.argsort(column, kind="stable")
            inner = (column[order[2:]] - column[order[:-2]]) if K > 2 else np.empty(0)
            gaps[order[1:-1]] = np.minimum(gaps[order[1:-1]], inner)
        return gaps
    reference = np.full(unit.shape[1], 1.1)
    whole = hypervolume(unit, reference)
    return np.array(
        [whole - hypervolume(np.delete(unit, at, axis=0), reference) for at in range(K)]
    )
