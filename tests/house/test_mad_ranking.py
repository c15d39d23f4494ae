"""The benchmark of MAD's tasks ranks as scipy does, counts every order for p, and its page says what is there."""

from __future__ import annotations

import importlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import stats

from hybridlab.architecture.document import loads
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare

TOP = Path(__file__).parents[2]
LISTS = [
    [1.0, 2.0, 3.0, 4.0, 5.0],
    [51.6, 45.2, 52.7, 38.8, 42.2],
    [89.5, 89.5, 85.2, 63.3, 52.8],
    [100.0, 100.0, 99.6, 100.0, 8.0],
]


@pytest.fixture
def mad(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a file of the benchmark, as it is when that runs."""
    monkeypatch.syspath_prepend(str(TOP / "benchmarks"))

    def of(name: str) -> ModuleType:
        return importlib.import_module(f"mad_{name}")

    return of


def result(mad: Any, subject: str, task: str, accuracy: float | None, **about: Any) -> Any:
    """Return a training of today's profile."""
    given: dict[str, Any] = {
        "architecture": subject,
        "fingerprint": mad("ranking").fingerprint(subject, task),
        "task": task,
        "seed": 0,
        "learning_rate": 3e-3,
        "budget": mad("profile").budget(task),
        "val_accuracy": accuracy,
        "accuracy": accuracy,
        "cpu_seconds": 1.0,
        "params": 1000,
        "chance": 0.125,
        "commit": "abc",
        "date": "2026-11-23",
        "machine": "one",
    }
    return mad("page").Result(**(given | about))


@pytest.mark.parametrize("values", LISTS)
def test_the_largest_is_first_and_equal_ones_share_a_rank(mad: Any, values: list[float]) -> None:
    expected = stats.rankdata([-value for value in values])
    assert mad("page").ranks(values) == pytest.approx(list(expected))


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product(LISTS, LISTS)))
def test_the_correlation_is_scipy_s(mad: Any, ours: list[float], theirs: list[float]) -> None:
    assert mad("page").spearman(ours, theirs) == pytest.approx(stats.spearmanr(ours, theirs)[0])


@pytest.mark.parametrize(("ours", "theirs"), [(LISTS[0], LISTS[1]), (LISTS[2], LISTS[3])])
def test_p_is_that_of_scipy_s_permutations(
    mad: Any, ours: list[float], theirs: list[float]
) -> None:
    exact = stats.permutation_test(
        (ours,),
        lambda order: stats.spearmanr(order, theirs)[0],
        permutation_type="pairings",
        alternative="two-sided",
    )
    # scipy doubles the smaller side; ours counts both sides as they are, which differs where ties make them unlike.
    orders = list(itertools.permutations(ours))
    found = [abs(stats.spearmanr(order, theirs)[0]) for order in orders]
    at_least = sum(one >= abs(exact.statistic) - 1e-9 for one in found)
    assert mad("page").p_value(ours, theirs) == pytest.approx(at_least / 120)
    if ours == LISTS[0]:
        assert mad("page").p_value(ours, theirs) == pytest.approx(exact.pvalue)


def test_five_points_say_little(mad: Any) -> None:
    page, ordered = mad("page"), [1.0, 2.0, 3.0, 4.0, 5.0]
    assert page.p_value(ordered, ordered) == pytest.approx(2 / 120)
    assert page.p_value(ordered, [2.0, 1.0, 3.0, 4.0, 5.0]) == pytest.approx(10 / 120)
    assert page.spearman(ordered, ordered[::-1]) == pytest.approx(-1)
    assert page.spearman([1.0] * 5, ordered) is page.p_value([1.0] * 5, ordered) is None


def test_the_rate_is_chosen_on_validation_and_among_rates_that_all_seeds_have(mad: Any) -> None:
    def run(rate: float, seed: int, val: float | None, test: float) -> Any:
        about = {"learning_rate": rate, "seed": seed, "val_accuracy": val}
        return result(mad, "mamba", "mad_compression", test, **about)

    runs = [run(1e-3, 0, 0.5, 0.9), run(1e-3, 1, 0.5, 0.9), run(3e-3, 0, 0.6, 0.1)]
    runs += [run(3e-3, 1, 0.6, 0.3), run(1e-2, 0, 0.99, 0.99)]
    found = mad("page").chosen(runs)
    assert [(one.learning_rate, one.seed) for one in found] == [(3e-3, 0), (3e-3, 1)]
    assert mad("page").percent(found) == 20.0
    lost = run(3e-2, 0, None, 0.0)
    assert mad("page").chosen([lost, run(1e-3, 0, 0.1, 0.1)])[0].learning_rate == 1e-3


def test_the_published_table_is_whole_and_every_architecture_fits_every_task(mad: Any) -> None:
    profile = mad("profile")
    assert profile.published("transformer", "mad_selective_copying") == 99.6
    assert profile.published("delta_net", "mad_memorization") == 52.8
    for subject, task in itertools.product(profile.SUBJECTS, profile.TASKS):
        made, spec = prepare(mad("ranking").settings((subject, task, 1, 1e-3)))
        assert (spec.seed, spec.learning_rate, spec.weight_decay) == (1, 1e-3, 0.0)
        assert spec.target is None and spec.steps == profile.TASKS[task].steps
        assert fit(loads(profile.text_of(subject, task)), made).nodes


def test_what_has_changed_is_trained_again(mad: Any) -> None:
    ranking = mad("ranking")
    one = result(mad, "gla", "mad_memorization", 0.5)
    wanted = [("gla", "mad_memorization", 0, 3e-3), ("gla", "mad_memorization", 1, 3e-3)]
    assert ranking.missing([one], wanted) == wanted[1:]
    assert ranking.missing([replace(one, fingerprint="other")], wanted) == wanted
    assert ranking.missing([replace(one, budget={"steps": 1})], wanted) == wanted


def test_the_page_shows_ranks_ties_and_what_is_lacking(mad: Any) -> None:
    profile, page = mad("profile"), mad("page")
    task, other = "mad_in_context_recall", "mad_noisy_in_context_recall"
    here = dict(zip(profile.SUBJECTS, (0.8, 0.3, 0.30001, None, 1.0), strict=True))
    runs = [result(mad, subject, task, accuracy) for subject, accuracy in here.items()]
    text = page.page([*runs, result(mad, "hyena", other, 0.25)])
    assert "**Not finished: 24 of 30 are still to come.**" in text
    # ranks here 2, 3.5, 3.5, 5, 1 against the published 2, 4, 3, 5, 1
    rho = stats.spearmanr([2, 3.5, 3.5, 5, 1], [2, 4, 3, 5, 1])[0]
    assert f"| In-context recall | +{rho:.2f} | 0.033 | DeltaNet | DeltaNet |" in text
    assert "| Noisy in-context recall | not finished |" in text
    first, last = (text.index(f"[{name}]") for name in ("DeltaNet", "GLA"))
    assert first < text.index("[Transformer]") < last
    assert "| 0.0 (1 diverged) | 80.8 | 5 | 5 |" in text
    assert "Guessing gives 12.5 %" in text
    alike = [result(mad, subject, task, 1.0) for subject in here]
    assert "this task ranks nothing" in page.page(alike)


def test_results_are_kept_as_they_are(mad: Any, tmp_path: Path) -> None:
    ranking, kept = mad("ranking"), tmp_path / "results.json"
    assert ranking.read(kept) == []
    runs = [result(mad, "mamba", "mad_compression", 0.2, seed=seed) for seed in range(2)]
    ranking.write(runs, kept)
    assert ranking.read(kept) == runs
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_page_in_docs_is_that_of_its_results(mad: Any) -> None:
    ranking = mad("ranking")
    results = ranking.valid(ranking.read(TOP / "docs" / "mad_ranking.json"))
    assert results, "the profile has changed: run benchmarks/mad_ranking.py again"
    assert (TOP / "docs" / "mad_ranking.md").read_text("utf-8") == mad("page").page(results)
    assert max(one.cpu_seconds for one in results) < 180


def test_a_training_runs_in_its_own_process(mad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, ranking = mad("profile"), mad("ranking")
    short = replace(profile.TASKS["mad_compression"], steps=3)
    monkeypatch.setitem(profile.TASKS, "mad_compression", short)
    found = ranking.trained(("gla", "mad_compression", 0, 3e-3))
    assert found.accuracy is not None and 0 <= found.accuracy < 0.5
    assert found.budget["steps"] == 3 and json.dumps(found.budget)
    assert found.chance == pytest.approx((15 / 15 + 1) / 16)
