"""Who goes on at a rung: by layers of the front, by what each alone covers, and never by who asks."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.halving import PRICES, RUNGS, best_first, foreseen, goes_on, judge, rungs_of
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.pareto import hypervolume, scaled
from hybridlab.search.samplers import SAMPLERS, make_sampler
from hybridlab.search.study import ask, open_study, tell
from hybridlab.search.surrogate import Surrogate


@pytest.mark.parametrize(
    ("steps", "eta", "rungs", "expected"),
    [
        (120, 3, 2, (13, 39)),
        (90, 3, 2, (10, 30)),
        (4, 3, 2, (1, 3)),
        (1, 3, 2, ()),
        (50, 2, 0, ()),
    ],
)
def test_rungs_grow_and_stay_below_the_whole(steps, eta, rungs, expected):
    assert rungs_of(steps, eta, rungs) == expected


def naive_order(points):
    """Layer by layer with loops, and each point's own share by taking it away."""
    left, order = list(range(len(points))), []
    while left:
        layer = [
            a
            for a in left
            if not any(
                (points[b] <= points[a]).all() and (points[b] < points[a]).any() for b in left
            )
        ]
        unit = scaled(points[layer])
        ref = np.full(points.shape[1], 1.1)
        alone = [
            hypervolume(unit, ref) - hypervolume(np.delete(unit, at, axis=0), ref)
            for at in range(len(layer))
        ]
        order += [layer[at] for at in np.argsort(-np.array(alone), kind="stable")]
        left = [one for one in left if one not in layer]
    return order


@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_the_naive_one(seed):
    points = np.random.default_rng(seed).random((24, 2 + seed % 2))
    assert best_first(points) == naive_order(points)


def test_a_large_layer_is_ranked_and_keeps_its_ends():
    x = np.linspace(0, 1, 100)
    order = best_first(np.column_stack((x, 1 - x)))
    assert sorted(order) == list(range(100))
    assert set(order[:2]) == {0, 99}


def test_the_first_few_go_on_and_then_a_share_does():
    points = np.column_stack((np.arange(10.0), np.arange(10.0)))
    kept = [[goes_on(points[:n], mine, 3) for mine in range(n)] for n in (1, 3, 4, 10)]
    assert [sum(row) for row in kept] == [1, 3, 3, 4]
    assert kept[-1] == [True] * 4 + [False] * 6
    assert not goes_on(np.array([[1.0, np.nan]]), 0, 3), "what has no number never does"


def test_a_study_is_asked_at_one_length_alone():
    landscape = ClosedFormLandscape(ClosedForm(blocks=2))
    study = open_study(landscape, make_sampler("random", landscape))
    for quality, peak in [(0.9, 1.0), (0.8, 2.0), (0.7, 3.0)]:
        trial = study.ask()
        trial.set_user_attr(PRICES, [None, peak])
        assert judge(study, trial.number, 10, quality, 3), "the first three"
    worse, better, cheaper = study.ask(), study.ask(), study.ask()
    for trial, peak in ((worse, 4.0), (better, 4.0), (cheaper, 0.5)):
        trial.set_user_attr(PRICES, [None, peak])
    assert not judge(study, worse.number, 10, 0.6, 3)
    assert judge(study, better.number, 10, 0.95, 3), "large is good of quality"
    assert judge(study, cheaper.number, 10, 0.5, 3), "and small of bytes"
    assert judge(study, worse.number, 30, 0.6, 3), "nobody else has come to 30 steps"
    alone = study.ask()
    assert judge(study, alone.number, 10, 0.0, 3), "one without prices cannot be compared"
    assert study.trials[worse.number].user_attrs[RUNGS] == {"10": 0.6, "30": 0.6}
    study.tell(worse, state=optuna.trial.TrialState.PRUNED)
    assert not judge(study, worse.number, 10, 0.6, 3), (
        "told meanwhile: nothing is written, no error"
    )


def test_what_was_stopped_is_foreseen_by_what_others_gained():
    landscape = ClosedFormLandscape(ClosedForm(blocks=2))
    study = open_study(landscape, make_sampler("random", landscape))
    for rungs, peak, end in [
        ({"10": 0.2, "30": 0.4}, 5.0, 0.8),
        ({"10": 0.4, "30": 0.6}, 6.0, 0.8),
        ({"10": 0.1}, 7.0, None),
        ({"10": 0.3, "30": 0.3}, 8.0, None),
        ({"20": 0.3}, 9.0, None),
        ({}, 9.0, None),
    ]:
        trial = study.ask()
        trial.set_user_attr(PRICES, [None, peak])
        trial.set_user_attr(RUNGS, rungs)
        outcome = Outcome(stopped=True, reason="no") if end is None else Outcome((end, peak))
        tell(study, landscape, trial, outcome)
    known, values = foreseen(study.trials)
    assert [one.number for one in known] == [2, 3, 4]
    np.testing.assert_allclose(values, [[0.1 + 0.5, 7.0], [0.3 + 0.3, 8.0], [0.3, 9.0]])


def test_the_sampler_learns_from_what_was_stopped():
    landscape = ClosedFormLandscape(ClosedForm(blocks=3))
    sampler = make_sampler("cost_aware", landscape)
    learnt = []
    fit = Surrogate.fit

    def heard(features, values):
        learnt.append(len(values))
        return fit(features, values)

    study = open_study(landscape, sampler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Surrogate, "fit", heard)
        for number in range(30):
            trial = ask(study, landscape)
            row = landscape.space.codes([trial.params])[0]
            quality, peak = landscape.measure(row, 0).values
            trial.set_user_attr(PRICES, [None, peak])
            trial.set_user_attr(RUNGS, {"10": quality - 0.1})
            stops = number % 3 == 2
            tell(
                study,
                landscape,
                trial,
                Outcome(stopped=True, reason="no") if stops else Outcome((quality, peak)),
            )
    assert learnt and learnt[-1] == 29, "all that came before the last"


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_after_a_trial_was_stopped(name):
    landscape = ClosedFormLandscape(ClosedForm(blocks=2))
    study = open_study(landscape, make_sampler(name, landscape, trials=40))
    for number in range(16):
        trial = ask(study, landscape)
        trial.set_user_attr(PRICES, [None, float(number)])
        judge(study, trial.number, 10, 0.5, 3)
        outcome = Outcome(stopped=True, reason="no") if number % 2 else Outcome((0.5, 1.0 + number))
        tell(study, landscape, trial, outcome)
    assert len(study.trials) == 16
