"""The benchmark of strategies says no difference where there is none, and calls a line met where it is."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def strategy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a file of the benchmark, as it is when that runs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def of(name: str) -> ModuleType:
        return importlib.import_module(f"strategy_{name}")

    return of


def test_an_interval_is_student_s_and_one_seed_says_nothing(strategy: Any) -> None:
    statistics = strategy("statistics")
    found = statistics.interval([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(4.303 / math.sqrt(3)))
    words = {
        "no difference shown": statistics.difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
        "up": statistics.difference([1.0, 1.1, 1.2], [0.0, 0.0, 0.0]),
        "down": statistics.difference([0.0, 0.0, 0.0], [1.0, 1.1, 1.2]),
        "one seed says nothing": statistics.difference([5.0], [1.0]),
    }
    for word, one in words.items():
        assert statistics.verdict(one, "up", "down") == word
    assert statistics.verdict(words["up"], "less", "more", higher_is_better=False) == "more"


def made(module: ModuleType, result: Any) -> dict[str, Any]:
    """Return results for all of a section's trainings."""
    trainings = importlib.import_module("strategy_trainings")
    budget = trainings.Budget((0, 1, 2), 1.0)
    found = {trainings.key(job): result(job) for job in module.jobs(budget, {})}
    return {"budget": budget, "found": found}


@pytest.mark.parametrize(
    ("load", "bits", "met"),
    [(1.3, 2.03, True), (1.31, 2.03, False), (1.2, 2.05, False)],
)
def test_experts_are_judged_by_load_and_loss(
    strategy: Any, load: float, bits: float, met: bool
) -> None:
    section = strategy("experts")

    def result(job: dict[str, Any]) -> dict[str, float]:
        free = job["arm"] == "unbalanced"
        return {"test_bits_per_byte": 2.0 if free else bits, "max_over_mean": 4.0 if free else load}

    (line,) = section.told(**made(section, result)).lines
    assert line.met is met


@pytest.mark.parametrize(
    ("before", "after", "accuracy", "met"),
    [
        (1001.0, 29.0, 0.8, [True, True, True]),
        (999.0, 31.0, 0.8, [False, False, True]),
        (1001.0, 29.0, 0.5, [True, True, False]),
    ],
)
def test_the_mended_network_is_judged_by_ratios_and_by_learning(
    strategy: Any, before: float, after: float, accuracy: float, met: list[bool]
) -> None:
    section = strategy("broken")

    def result(job: dict[str, Any]) -> dict[str, Any]:
        return {
            "before_smallest_ratio": before,
            "before_largest_ratio": 2 * before,
            "after_smallest_ratio": after / 2,
            "after_largest_ratio": after,
            "before_later_ratio": 9.0,
            "after_later_ratio": 400.0,
            "before_reached": None,
            "after_reached": 200,
            "before_accuracy": 0.5,
            "after_accuracy": accuracy,
            "finding": "Gradients vanish",
            "remedy": "Norm before",
        }

    assert [line.met for line in section.told(**made(section, result)).lines] == met


def test_rates_by_component_start_from_the_best_single_one(strategy: Any) -> None:
    section, trainings = strategy("rates"), strategy("trainings")
    budget, found = trainings.Budget((0, 1), 1.0), {}
    for _ in range(4):
        for job in section.jobs(budget, found):
            best = job["rate"] == 0.0173 and job["arm"] in ("single", "mixers × 3")
            extra = 0.05 if job["arm"] == "mixers × 3" else 0.0
            found[trainings.key(job)] = {
                "val_accuracy": (0.9 if best else 0.5 + job["rate"]) + extra,
                "test_accuracy": (0.9 if best else 0.5) + extra + 0.001 * job["seed"],
            }
    says = section.told(budget, found)
    assert {row[1] for row in says.rows} == {"0.017"}
    assert {row[3] for row in says.rows} == {"mixers × 3"}
    assert {row[-1] for row in says.rows} == {"component rates are better"}
