"""Our sampler: evolves the present front, prices every candidate exactly, and takes the best expected gain.

One ``ask``: candidates are mutated and crossed from the front, or are the whole of a small space; what cannot be
built, breaks a limit or was tried is left out; predicted objectives are priced by the cost model, the measured one is
foreseen by a surrogate that knows how unsure it is; the candidate with the largest expected gain of hypervolume is
taken. The first trials are hand designs. It is an Optuna sampler, so that ``study.ask``, ``study.optimize`` and the
dashboard know it as any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hybridlab.search.gain import expected_gain
from hybridlab.search.halving import foreseen
from hybridlab.search.landscape import Array, Landscape, signs, within
from hybridlab.search.pareto import non_dominated
from hybridlab.search.space import Codes
from hybridlab.search.surrogate import Surrogate

REPAIRED = "repaired"
"""The trial's attribute that holds the design that ran, where the one asked for could not be built."""
MOST_LEARNT_FROM = 300
"""Trials that the surrogate is fitted to: the front, the newest, and others from all along the way."""
ROUNDS = 3
"""How often the best candidates are mutated again within one ask."""


class CostAware(BaseSampler):
    """Cost-aware evolution of a landscape's front; the same trials and seed give the same proposals."""

    def __init__(self, landscape: Landscape, seed: int = 0) -> None:
        """Begin with nothing tried; the study that asks holds all trials."""
        self.landscape = landscape
        self.seed = seed
        self._fallback = RandomSampler(seed=seed)
        self._hand = self._possible(landscape.space.codes(landscape.hand_designs()))
        self._rows: dict[int, bytes] = {}
        self._dearest: Array | None = None
        self._whole: Codes | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the landscape's whole space: it is always sampled at once."""
        return dict(self.landscape.space.distributions())

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the design to try next."""
        if not search_space:
            return {}
        rng = np.random.default_rng((self.seed, trial.number))
        trials = study.get_trials(deepcopy=False)
        tried = {self._row(one) for one in trials if one.number != trial.number}
        # Workers that ask at the same time do not see each other's designs, but have different numbers.
        first = trial.number if trial.number < len(self._hand) else 0
        for row in np.roll(self._hand, -first, axis=0):
            if row.tobytes() not in tried:
                return dict(self.landscape.space.design(row))
        done = [one for one in trials if one.state == TrialState.COMPLETE]
        short, values = foreseen(trials)
        return dict(self.landscape.space.design(self._chosen(rng, done, tried, short, values)))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that is not of the landscape's space."""
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Do nothing: proposals follow from the seed and the trial's number alone."""

    def _row(self, trial: FrozenTrial) -> bytes:
        """Return a trial's design as bytes; empty where it is not one of this space."""
        row = self._rows.get(trial.number)
        if row is None:
            design = trial.user_attrs.get(REPAIRED) or trial.params
            try:
                row = self.landscape.space.codes([design])[0].tobytes()
            except (KeyError, ValueError):
                return b""
            if trial.state.is_finished():
                self._rows[trial.number] = row
        return row

    def _possible(self, rows_NP: Codes) -> Codes:
        """Return the rows that can be built and keep every limit as far as prices tell."""
        if not len(rows_NP):
            return rows_NP
        rows = self.landscape.repaired(rows_NP)
        rows = _distinct(rows[(rows >= 0).all(axis=1)])
        prices = self.landscape.prices(rows)
        return rows[within(self.landscape, prices) & ~np.isinf(prices).any(axis=1)]

    def _chosen(
        self,
        rng: np.random.Generator,
        done: list[FrozenTrial],
        tried: set[bytes],
        short: list[FrozenTrial],
        short_values: Array,
    ) -> NDArray[np.int64]:
        """Return the candidate with the best expected gain; a random design where nothing has been measured yet.

        ``short`` are trials that were stopped: the surrogate learns from what they would have come to, the front not.
        """
        P = len(self.landscape.space.choices)
        usable = [one for one in done if self._row(one)]
        if not usable:
            return self._random(rng, tried)
        codes = np.array([np.frombuffer(self._row(one), dtype=np.int64) for one in usable])
        raw = np.array([one.values for one in usable])
        values = raw * signs(self.landscape)
        allowed = within(self.landscape, raw)
        dearest = self._dearest_prices()
        sets = _Foreseen(
            self.landscape,
            codes.reshape(-1, P),
            values,
            allowed,
            dearest,
            rng,
            self._lesson(short[-MOST_LEARNT_FROM:], short_values[-MOST_LEARNT_FROM:]),
        )
        small = self.landscape.space.size <= self.landscape.pool
        candidates = (
            self._untried(tried)
            if small
            else self._new(rng, codes[sets.parents], self.landscape.pool, tried)
        )
        gains = sets.gains(candidates)
        for _ in range(ROUNDS - 1):
            if small or not len(candidates):
                break
            top = candidates[np.argsort(-gains, kind="stable")[: max(4, self.landscape.pool // 60)]]
            seen = tried | {row.tobytes() for row in candidates}
            more = self._new(rng, top, self.landscape.pool // 4, seen)
            if len(more):
                more_gains = sets.gains(more)
                candidates, gains = np.vstack((candidates, more)), np.append(gains, more_gains)
        if not len(candidates) or not np.isfinite(gains).any():
            return self._random(rng, tried)
        return np.asarray(candidates[int(np.nanargmax(gains))], dtype=np.int64)

    def _lesson(self, trials: list[FrozenTrial], raw: Array) -> tuple[Codes, Array]:
        """Return trials as rows and values with signs turned, (K, P) and (K, M); those of other spaces left out."""
        kept = [at for at, one in enumerate(trials) if self._row(one)]
        rows = [np.frombuffer(self._row(trials[at]), dtype=np.int64) for at in kept]
        shape = len(kept), len(self.landscape.space.choices)
        values = raw[kept].reshape(len(kept), len(self.landscape.objectives))
        return np.array(rows, dtype=np.int64).reshape(shape), values * signs(self.landscape)

    def _dearest_prices(self) -> Array:
        """Return about the worst that a possible design costs, signs turned, (M): the limit, where there is one.

        It is -inf where only trials tell. Without it nothing would be gained by what is dearer than all that was tried.
        """
        if self._dearest is None:
            drawn = self.landscape.space.random(
                np.random.default_rng(self.seed), min(256, self.landscape.pool)
            )
            rows = self._possible(np.concatenate((self._hand, drawn)))
            prices = self.landscape.prices(rows) * signs(self.landscape)
            prices = np.where(np.isnan(prices), -np.inf, prices)
            self._dearest = np.max(prices, axis=0, initial=-np.inf)
            for column, objective in enumerate(self.landscape.objectives):
                if objective.name in self.landscape.limits:
                    limit = self.landscape.limits[objective.name]
                    self._dearest[column] = objective.sign * limit
        return self._dearest

    def _untried(self, tried: set[bytes]) -> Codes:
        """Return every possible design that was not tried, for a space no larger than the pool."""
        if self._whole is None:
            self._whole = self._possible(self.landscape.space.everything())
        new = np.array([row.tobytes() not in tried for row in self._whole], dtype=bool)
        return np.asarray(self._whole[new], dtype=np.int64)

    def _new(
        self, rng: np.random.Generator, parents: Codes, count: int, tried: set[bytes]
    ) -> Codes:
        """Return about ``count`` new candidates: parents mutated, crossed and rearranged, and some at random."""
        space = self.landscape.space
        drawn = parents[rng.integers(0, len(parents), size=(2, count))]
        few, many = max(count // 8, 1), max(count * 3 // 8, 1)
        crossed = space.crossed(rng, drawn[0, :many], drawn[1, :many])
        rows = [
            crossed,
            space.mutated(rng, crossed[: many // 2], 1.0),
            space.mutated(rng, drawn[0, many : 2 * many], 1.5),
            space.rearranged(rng, drawn[0, -few:]),
            space.random(rng, few),
        ]
        found = _distinct(np.concatenate(rows))
        found = found[rng.permutation(len(found))[:count]]
        new = np.array([row.tobytes() not in tried for row in found], dtype=bool)
        repaired = self.landscape.repaired(found[new])
        repaired = _distinct(repaired[(repaired >= 0).all(axis=1)])
        new = np.array([row.tobytes() not in tried for row in repaired], dtype=bool)
        return np.asarray(repaired[new], dtype=np.int64)

    def _random(self, rng: np.random.Generator, tried: set[bytes]) -> NDArray[np.int64]:
        """Return a possible design that was not tried, where one is found; else any."""
        for count in (32, 256):
            drawn = self._possible(self.landscape.space.random(rng, count))
            new = [row for row in drawn if row.tobytes() not in tried]
            if new:
                return np.asarray(new[0], dtype=np.int64)
        return np.asarray(self.landscape.space.random(rng, 1)[0], dtype=np.int64)


class _Foreseen:
    """What trials so far say of candidates: the front to beat, and a surrogate of each measured objective."""

    def __init__(
        self,
        landscape: Landscape,
        codes: Codes,
        values: Array,
        allowed: NDArray[np.bool_],
        dearest: Array,
        rng: np.random.Generator,
        lesson: tuple[Codes, Array],
    ) -> None:
        self.landscape = landscape
        self.signs = signs(landscape)
        eligible = np.flatnonzero(allowed) if allowed.any() else np.arange(len(codes))
        self.front = eligible[non_dominated(values[eligible])]
        self.points = values[self.front] if allowed.any() else values[:0]
        worst = np.maximum(values[eligible].max(axis=0), dearest)
        best = values[eligible].min(axis=0)
        self.reference = worst + 0.05 * np.where(worst > best, worst - best, np.abs(worst) + 1e-9)
        left = np.setdiff1d(eligible, self.front)
        second = left[non_dominated(values[left])] if len(left) else left
        self.parents = np.concatenate((self.front, self.front, second))
        rows = _learnt_from(len(codes), self.front, rng)
        features = landscape.space.features(np.concatenate((codes[rows], lesson[0])))
        learnt = np.concatenate((values[rows], lesson[1]))
        self.surrogates = {
            column: Surrogate.fit(features[known], learnt[known, column])
            for column, objective in enumerate(landscape.objectives)
            if not objective.predicted
            for known in [~np.isnan(learnt[:, column])]  # energy of trainings that were stopped
        }

    def gains(self, candidates: Codes) -> Array:
        """Return the expected gain of hypervolume of each candidate, (N)."""
        if not len(candidates):
            return np.empty(0)
        raw = self.landscape.prices(candidates)
        prices = raw * self.signs
        impossible = ~within(self.landscape, raw) | np.isinf(raw).any(axis=1)
        features = self.landscape.space.features(candidates)
        foreseen = {column: one.predict(features) for column, one in self.surrogates.items()}
        for column, (mean, _) in foreseen.items():
            prices[:, column] = mean
        unsure = next(iter(foreseen), 0)
        mean, deviation = foreseen.get(unsure, (prices[:, unsure], np.zeros(len(prices))))
        gains = expected_gain(self.points, self.reference, unsure, prices, mean, deviation)
        # Where nothing is expected, the less known and the better come first.
        scale = float(np.ptp(gains)) or 1.0
        gains += 1e-9 * scale * deviation / (float(deviation.max()) or 1.0)
        gains[impossible] = -np.inf
        return gains


def _learnt_from(
    count: int, front: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return which trials a surrogate is fitted to: all of few; of many the front, the newest, and some of the rest."""
    if count <= MOST_LEARNT_FROM:
        return np.arange(count)
    newest = np.arange(count - MOST_LEARNT_FROM // 2, count)
    must = np.union1d(front[: MOST_LEARNT_FROM // 3], newest)
    rest = np.setdiff1d(np.arange(count), must)
    chosen = rng.choice(rest, size=max(0, MOST_LEARNT_FROM - len(must)), replace=False)
    return np.sort(np.concatenate((must, chosen)))


def _distinct(rows_NP: Codes) -> Codes:
    """Return the rows without repeats, in the order of their first coming."""
    seen: dict[bytes, int] = {}
    for place, row in enumerate(np.ascontiguousarray(rows_NP)):
        seen.setdefault(row.tobytes(), place)
    return rows_NP[list(seen.values())]
