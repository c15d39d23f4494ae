"""The table of trained hybrids that ships: plausible, its front that of all designs, its predictions of today."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hybridlab.architecture.document import dump, loads
from hybridlab.search.front import front_of
from hybridlab.search.opening import landscape_of
from hybridlab.search.pareto import hypervolume
from hybridlab.search.samplers import SAMPLERS, make_sampler
from hybridlab.search.spec import search_of
from hybridlab.search.study import completed, open_study, search
from hybridlab.search.trained_table import (
    COSTS,
    FILE,
    METRIC,
    TASKS,
    TableLandscape,
    shipped_table,
)

TOP = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that trained the table."""
    monkeypatch.syspath_prepend(str(TOP / "benchmarks"))
    return importlib.import_module("trained_table")


def test_it_ships_and_holds_what_a_table_must() -> None:
    assert FILE.stat().st_size < 1_000_000
    table = shipped_table()
    frame = table.frame
    assert table.space.size >= 500 and len(table.seeds) >= 2
    names = [choice.name for choice in table.space.choices]
    assert len(frame.drop_duplicates(names)) == table.space.size
    assert len(frame) == table.space.size * len(table.seeds) * len(TASKS)
    assert set(frame["task"]) == set(TASKS) == set(table.about["training"])
    for column in (METRIC, "test_accuracy"):
        assert frame[column].between(0, 1).all()
    assert (frame["train_loss"] > 0).all() and (frame["measured_cpu_s"] > 0).all()
    assert (
        frame["steps"] == frame["task"].map(lambda t: table.about["training"][t]["steps"])
    ).all()
    assert (frame[[f"predicted_{cost}" for cost in COSTS]] > 0).to_numpy().all()
    assert frame["version"].str.len().gt(0).all() and frame["commit"].str.len().gt(0).all()


@pytest.mark.parametrize("task", TASKS)
def test_good_designs_clearly_beat_bad_ones_whatever_the_seed(task: str) -> None:
    table = shipped_table()
    rows = table.frame[table.frame["task"] == task]
    names = [choice.name for choice in table.space.choices]
    by_seed = rows.pivot(index=names, columns="seed", values=METRIC)
    means = by_seed.mean(axis=1)
    assert means.quantile(0.95) - means.quantile(0.05) > 0.3
    # What designs differ by is far more than what a mean over the seeds varies by chance.
    assert by_seed.var(axis=1).mean() / len(table.seeds) < 0.35 * means.var()
    assert np.corrcoef(by_seed.to_numpy().T).min() > 0.3


@pytest.mark.parametrize("task", TASKS)
def test_the_exact_front_is_that_of_comparing_all_with_all(task: str) -> None:
    table = shipped_table()
    landscape = TableLandscape(table, task)
    names = [choice.name for choice in table.space.choices]
    rows = table.frame[table.frame["task"] == task]
    points = [
        (float(part[METRIC].mean()), float(part["predicted_peak_bytes"].iloc[0]))
        for _, part in rows.groupby(names)
    ]
    best = {
        (quality, price)
        for quality, price in points
        if not any(q >= quality and p <= price and (q > quality or p < price) for q, p in points)
    }
    front = landscape.true_front()
    np.testing.assert_allclose(front, sorted(best, key=lambda one: -one[0]), rtol=1e-12)
    assert len(front) >= 5
    told = [landscape.measure(row, 0).values for row in landscape.front_designs]
    np.testing.assert_allclose(told, front)
    reference, volume = landscape.exact()
    np.testing.assert_allclose(reference, np.max(np.array(points) * (-1, 1), axis=0))
    assert volume == pytest.approx(hypervolume(np.array(points) * (-1, 1), reference))


def test_its_script_goes_on_where_the_table_ends(script: ModuleType) -> None:
    table, lines = shipped_table(), script.lines_of(FILE)
    keys = {script.key(line["design"], line["task"], line["seed"]) for line in lines}
    grid = {
        script.key(design, task, seed)
        for design in script.designs()
        for task in TASKS
        for seed in table.seeds
    }
    assert keys == grid and len(lines) == len(grid)
    again = script.table_of(lines[:3])
    same = table.frame.merge(again, how="inner")
    assert len(same) == 3 and list(again.columns) == list(table.frame.columns)


def test_predictions_are_what_predict_says_of_the_design_today(script: ModuleType) -> None:
    table, known = shipped_table(), script.Predictions()
    space = table.space
    assert table.about["architecture"] == script.ARCHITECTURE
    assert table.about["search"] == script.SEARCH
    rows = np.random.default_rng(0).permutation(space.everything())[:4]
    for task, row in itertools.product(TASKS, rows):
        design = space.design(row)
        landscape = TableLandscape(table, task, (METRIC, "params", "peak_bytes", "flops_step"))
        assert landscape.architecture(design) == loads(
            dump(script.marked().architecture_of(design))
        )
        told = known.of(design, task)
        wanted = [told[f"predicted_{one.name}"] for one in landscape.objectives[1:]]
        assert landscape.prices(row[None])[0, 1:].tolist() == wanted
        state = table.column(task, "predicted_state_bytes")[table.places(row[None])[0]]
        assert state == told["predicted_state_bytes"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_searches_it(name: str) -> None:
    landscape = landscape_of(search_of("name: t\ntrained_table: {task: digits_sequence}\n"))
    assert landscape.instant and isinstance(landscape, TableLandscape)
    study = open_study(landscape, make_sampler(name, landscape, seed=0, trials=20))
    search(study, landscape, 20)
    assert len(completed(study)) == (16 if name == "grid" else 20)  # a grid is no finer than that
    front = front_of(study, landscape)
    assert 0 < (front.hypervolume_share or 0) <= 1
    assert all(point.architecture.name == "small-hybrid" for point in front.points)
