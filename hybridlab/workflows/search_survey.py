"""What a search would be like, before it starts: its space, how much of it can be built, and what trials take."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridlab.errors import Problem, SpecError
from hybridlab.search.halving import rungs_of
from hybridlab.search.known import KnownLandscape
from hybridlab.search.landscape import Array, Landscape, within
from hybridlab.search.opening import landscape_of
from hybridlab.search.samplers import make_sampler, priced_for_one
from hybridlab.search.space import Codes
from hybridlab.search.spec import SearchSpec, search_of
from hybridlab.search.study import (
    ask,
    grid_done,
    mended_row,
    open_storage,
    open_study,
    search,
    tell,
)
from hybridlab.search.trained import TrainedLandscape
from hybridlab.workflows.trial_times import seconds_of

SAMPLE, SAMPLE_TRACED = 1_000, 16
"""Designs drawn at random: of a formula, and where each must be traced."""
PATIENCE_SECONDS = 6.0
_TIMED_TRIALS, _TIMED_DESIGNS, _TIMED_PRICES, _TRIALS_BEFORE = 8, 5, 8, 300
_MOST_FRONT = 400
_KEPT = 16
_sampled: dict[str, tuple[Array, list[float], float]] = {}


def survey(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search's text comes to, as plain values.

    ``sampled`` designs were drawn at random: ``built`` of them can be built as they are, ``within`` of these keep the
    limits on what is predicted. ``ranges`` has the least, the median and the most of each predicted objective.
    ``trial_s`` are the seconds of the shortest trial and of one that halving leaves alone; ``ask_s`` those in which the
    sampler finds a design, which ``asks_at_once`` workers do beside each other, or one for all of them. ``timed_s`` are
    those in which a trial is timed while the others wait, on the average: where halving stops most, and none.

    Raises:
        SpecError, TaskError: the search is wrong.
    """
    spec = search_of(str(args["text"]))
    landscape = landscape_of(spec)
    make_sampler(spec.sampler, landscape, trials=spec.trials)
    found, steps_s, price_s = _sample(landscape)
    built = found[~np.isinf(found).any(axis=1)]
    if isinstance(landscape, KnownLandscape):
        ask_s, each_s = _timed(spec, landscape)
        trial_s, timed_s = (each_s, each_s), (0.0, 0.0)
    else:
        assert isinstance(landscape, TrainedLandscape)
        trial_s = _trial_seconds(spec, landscape, steps_s)
        timed_s = _timing_seconds(spec, landscape, steps_s)
        ask_s = priced_for_one(spec.sampler, landscape) * price_s
    return {
        "name": landscape.name,
        "size": landscape.space.size,
        "choices": [
            {"name": choice.name, "values": list(choice.values)}
            for choice in landscape.space.choices
        ],
        "objectives": [vars(objective) for objective in landscape.objectives],
        "sampled": len(found),
        "built": len(built),
        "within": int(within(landscape, built).sum()),
        "ranges": {
            objective.name: [float(q) for q in np.quantile(built[:, column], (0, 0.5, 1))]
            for column, objective in enumerate(landscape.objectives)
            if objective.predicted and len(built)
        },
        "trial_s": list(trial_s),
        "timed_s": list(timed_s),
        "ask_s": ask_s,
        "asks_at_once": landscape.instant,
        "trained": not landscape.instant,
    }


def _sample(landscape: Landscape) -> tuple[Array, list[float], float]:
    """Return the prices of designs drawn at random, (N, M), the seconds of a step of the first few, and of a price.

    What was found for a landscape is kept: another limit or number of trials changes nothing of it. A price is timed on
    neighbours of the first hand design, since most of what is priced later is like something that was priced before.
    """
    key = repr((landscape.fingerprint, [one.name for one in landscape.objectives]))
    if key not in _sampled:
        most = SAMPLE if landscape.instant else SAMPLE_TRACED
        each = max(1, most // SAMPLE_TRACED)
        rows = landscape.space.random(np.random.default_rng(0), most)
        began, prices = time.monotonic(), []
        for at in range(0, most, each):
            prices.append(landscape.prices(rows[at : at + each]))
            if time.monotonic() - began > PATIENCE_SECONDS:
                break
        steps_s = (
            _step_seconds(landscape, rows[: len(prices)])
            if isinstance(landscape, TrainedLandscape)
            else []
        )
        while len(_sampled) >= _KEPT:
            _sampled.pop(next(iter(_sampled)))
        price_s = 0.0 if landscape.instant else _price_seconds(landscape)
        _sampled[key] = np.vstack(prices), steps_s, price_s
    return _sampled[key]


def _timed(spec: SearchSpec, landscape: KnownLandscape) -> tuple[float, float]:
    """Return the seconds of asking for a design and of the rest of a trial that is known at once: a few run here.

    They are run when half of the trials are there, in a journal as the search keeps one: samplers and storages take the
    longer the more there are. Hand designs are no work for a sampler, and so are not timed.
    """
    free = landscape.unlimited()
    before = min(spec.trials // 2, _TRIALS_BEFORE)
    with tempfile.TemporaryDirectory(prefix="hybridlab-survey-") as folder:
        kept = open_storage(Path(folder) / "survey.journal")
        study = open_study(free, make_sampler("random", free), storage=kept, name="survey")
        search(study, free, before)
        study.sampler = make_sampler(spec.sampler, free, trials=spec.trials)
        before += len(free.hand_designs())
        search(study, free, before)
        asks_s, rests_s = [0.0], [0.0]
        while len(asks_s) <= _TIMED_TRIALS and not grid_done(study):
            began = time.monotonic()
            trial = ask(study, free)
            asked = time.monotonic()
            row = mended_row(free, trial)
            assert row is not None
            tell(study, free, trial, free.measure(row, 0))
            asks_s.append(asked - began)
            rests_s.append(time.monotonic() - asked)
    count = max(1, len(asks_s) - 1)
    return sum(asks_s) / count, sum(rests_s) / count


def _trial_seconds(
    spec: SearchSpec, landscape: TrainedLandscape, steps_s: list[float]
) -> tuple[float, float]:
    """Return the predicted seconds of a training, with halving and without."""
    step_s = statistics.median(steps_s or [0.0])
    steps = landscape.training.steps
    rungs = rungs_of(steps, spec.halving.eta, spec.halving.rungs)
    ends = [*rungs, steps]
    share = sum(
        (end - begin) / spec.halving.eta**at
        for at, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
    )
    return step_s * share, step_s * steps


def _timing_seconds(
    spec: SearchSpec, landscape: TrainedLandscape, steps_s: list[float]
) -> tuple[float, float]:
    """Return the predicted seconds in which a trial is timed, by the share of trials that come so far, and all."""
    step_s = statistics.median(steps_s or [0.0])
    forward_s = step_s / 3 / landscape.training.batch  # of one sample
    names = landscape.timed
    each = seconds_of(step_s) if set(names) - {"measured_latency_ms"} else 0.0
    each += seconds_of(forward_s) if "measured_latency_ms" in names else 0.0
    rungs = rungs_of(landscape.training.steps, spec.halving.eta, spec.halving.rungs)
    return each / spec.halving.eta ** len(rungs), each


def _price_seconds(landscape: Landscape) -> float:
    """Return the seconds in which a design like one that is known gets its price."""
    space = landscape.space
    own = space.codes(landscape.hand_designs()[:1])
    near = space.mutated(np.random.default_rng(1), np.repeat(own, _TIMED_PRICES, axis=0), 1.5)
    took = []
    for row in np.unique(near, axis=0):
        began = time.monotonic()
        landscape.prices(row[None])
        took.append(time.monotonic() - began)
    return statistics.median(took)


def _step_seconds(landscape: TrainedLandscape, rows_NP: Codes) -> list[float]:
    """Return the predicted seconds of a training step of a few designs that can be built."""
    found: list[float] = []
    for row in rows_NP:
        if len(found) == _TIMED_DESIGNS:
            break
        if (step_ms := landscape.step_ms(row)) is not None:
            found.append(step_ms / 1e3)
    return found


def truth(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search's true front where it is known: points in the order of its objectives, and what it covers."""
    spec = SearchSpec.model_validate(args["file"])
    landscape = landscape_of(spec)
    if not isinstance(landscape, KnownLandscape):
        words = "only the true front of a closed form or of the trained table is known"
        raise SpecError(Problem("architecture", words))
    exact = landscape.exact()
    assert exact is not None
    front = landscape.true_front()
    front = front[within(landscape, front)]
    thin = front[np.linspace(0, len(front) - 1, min(len(front), _MOST_FRONT)).round().astype(int)]
    return {"front": thin.tolist(), "reference": exact[0].tolist(), "hypervolume": exact[1]}
