"""Samplers on the closed form: ours finds the front, moves stay in the space, names are checked."""

from __future__ import annotations

import functools
import math

import numpy as np
import optuna
import pytest

from hybridlab.errors import SpecError
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.cost_aware import CostAware
from hybridlab.search.front import front_of
from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.samplers import SAMPLERS, coarse_grid, make_sampler
from hybridlab.search.space import Choice, Space
from hybridlab.search.study import completed, open_study, search


@functools.cache
def landscape() -> ClosedFormLandscape:
    return ClosedFormLandscape(ClosedForm(blocks=4, widths=(64, 96, 128, 256)))


def share(name: str, trials: int, seed: int) -> float:
    study = open_study(landscape(), make_sampler(name, landscape(), seed=seed, trials=trials))
    search(study, landscape(), trials)
    return front_of(study, landscape()).hypervolume_share or math.nan


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_its_trials(name: str) -> None:
    study = open_study(landscape(), make_sampler(name, landscape(), seed=1, trials=16))
    search(study, landscape(), 16)
    done = completed(study)
    assert len(done) == 16
    rows = landscape().space.codes([trial.params for trial in done])
    np.testing.assert_allclose(landscape().form.evaluate(rows), [trial.values for trial in done])


def test_ours_finds_nearly_all_where_chance_does_not() -> None:
    ours = share("cost_aware", 70, 0)
    assert ours > 0.95
    assert ours > share("random", 70, 0) + 0.02


def test_ours_repeats_itself_and_never_a_design() -> None:
    runs = []
    for _ in range(2):
        study = open_study(landscape(), CostAware(landscape(), seed=3))
        search(study, landscape(), 24)
        runs.append([tuple(trial.params.items()) for trial in completed(study)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 24


def test_ours_goes_on_with_a_study_of_another_sampler_and_under_optimize() -> None:
    study = open_study(landscape(), make_sampler("random", landscape(), seed=0))
    search(study, landscape(), 20)
    study.sampler = CostAware(landscape())

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        design = {
            name: trial.suggest_categorical(name, kind.choices)
            for name, kind in landscape().space.distributions().items()
        }
        return landscape().measure(landscape().space.codes([design])[0], 0).values

    before = front_of(study, landscape()).hypervolume
    study.optimize(objective, n_trials=30)
    assert front_of(study, landscape()).hypervolume > before


def test_ours_proposes_nothing_beyond_a_limit() -> None:
    free = landscape()
    small = float(np.quantile(free.form.front[:, 1], 0.3))
    tight = ClosedFormLandscape(free.form, limits={"peak_bytes": small})
    study = open_study(tight, CostAware(tight))
    search(study, tight, 40)
    assert all(trial.values[1] <= small for trial in completed(study))
    front = front_of(study, tight)
    assert front.infeasible == 0
    assert 0.9 < (front.hypervolume_share or 0) <= 1
    assert all(max(trial.constraints.values()) <= 0 for trial in completed(study))


def test_running_trials_are_not_proposed_again() -> None:
    study = open_study(landscape(), CostAware(landscape()))
    asked = [study.ask(dict(landscape().space.distributions())) for _ in range(20)]
    assert len({tuple(trial.params.items()) for trial in asked}) == 20


def test_a_wrong_name_is_told_with_the_right_ones() -> None:
    with pytest.raises(SpecError) as caught:
        make_sampler("cost_awere", landscape())
    assert "cost_aware" in caught.value.problems[0].fix


def test_moves_stay_in_the_space_and_move() -> None:
    space = Space(
        (
            Choice("width", (8, 16, 32)),
            Choice("a", ("x", "y", "z"), "mixer"),
            Choice("b", ("x", "y", "z"), "mixer"),
            Choice("fixed", ("only",)),
        )
    )
    rng = np.random.default_rng(0)
    parents = space.random(rng, 500)
    mutated = space.mutated(rng, parents, 1.0)
    crossed = space.crossed(rng, parents, parents[::-1])
    swapped = space.rearranged(rng, parents)
    for rows in (parents, mutated, crossed, swapped):
        assert ((rows >= 0) & (rows < space.sizes)).all()
    assert (mutated != parents).any(axis=1).mean() > 0.6
    assert ((crossed == parents) | (crossed == parents[::-1])).all()
    assert (swapped[:, 0] == parents[:, 0]).all()
    assert space.size == len(space.everything()) == 27
    design = space.design(parents[0])
    assert (space.codes([design])[0] == parents[0]).all()
    counts = space.features(parents)[:, -3:]
    np.testing.assert_allclose(counts.sum(axis=1), 2)


def test_places_with_other_values_are_never_swapped() -> None:
    """Slots of an architecture may take different components, or as many of them that are others."""
    uses = (("mamba2", "gru", "attention"), ("swiglu", "moe"), ("mamba2", "gru", "lstm"))
    row = [*uses, uses[0]]
    space = Space(tuple(Choice(f"slot_{at}", values, "use") for at, values in enumerate(row)))
    assert space.groups == ((0, 3),)
    rng = np.random.default_rng(0)
    parents = space.random(rng, 200)
    swapped = space.rearranged(rng, parents)
    assert ((swapped >= 0) & (swapped < space.sizes)).all()
    assert (swapped[:, 1:3] == parents[:, 1:3]).all() and (swapped != parents).any()
    assert space.features(parents).shape[0] == 200


def test_a_grid_is_no_finer_than_its_trials() -> None:
    grid = coarse_grid(landscape().space, 100)
    size = math.prod(len(values) for values in grid.values())
    assert 50 <= size <= 100
