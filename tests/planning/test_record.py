"""Budgets and plans as plain data: what is read back is what was written, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybridlab.errors import RunError, SpecError
from hybridlab.planning.record import Budget, Figures, Plan

PLAN = Plan(
    fingerprint="abc",
    components=("a", "b", "c", "d"),
    recompute=(("a", "b"), ("d",)),
    batch=8,
    length=64,
    predicted=Figures(peak_bytes=10, step_ms=2.0),
    plain=Figures(peak_bytes=20, step_ms=1.0),
)


def test_a_budget_is_bytes_or_a_share() -> None:
    assert Budget.parse("40MiB").bytes_of(7) == 40 * 2**20
    assert Budget.parse("50 %").bytes_of(1000) == 500
    assert str(Budget.parse("40MiB")) == "40 MiB" and str(Budget.parse("12.5%")) == "12.5%"


@pytest.mark.parametrize("text", ["", "40", "-3MiB", "0%", "0 MiB", "forty", "50%%", "nan%"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not an amount of memory"):
        Budget.parse(text)


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert PLAN.spans("abc", ("a", "b", "c", "d")) == ((0, 1), (3, 3))


@pytest.mark.parametrize(
    ("fingerprint", "names"), [("xyz", ("a", "b", "c", "d")), ("abc", ("a", "b", "c"))]
)
def test_another_architecture_is_refused(fingerprint: str, names: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match="another architecture"):
        PLAN.spans(fingerprint, names)


@pytest.mark.parametrize(
    "runs", [[["a", "c"]], [["b", "a"]], [["x"]], [["b"], ["a"]], [["a", "b"], ["b", "c"]]]
)
def test_runs_that_are_none_are_refused(runs: list[list[str]]) -> None:
    made = Plan.model_validate(PLAN.as_dict() | {"recompute": runs})
    with pytest.raises(RunError, match=r"plan\.recompute"):
        made.spans("abc", ("a", "b", "c", "d"))


def test_what_must_be_kept_is_not_computed_again_by_hand() -> None:
    made = PLAN.model_copy(update={"kept_because": {"b": "it counts"}})
    with pytest.raises(RunError, match="b cannot be computed again: it counts"):
        made.spans("abc", ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        json.dumps({"version": 1}),
        json.dumps(PLAN.as_dict() | {"version": 2}),
        json.dumps(PLAN.as_dict() | {"other": 1}),
        json.dumps(PLAN.as_dict() | {"recompute": [[]]}),
    ],
)
def test_files_that_hold_no_plan_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunError):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(RunError):
        Plan.load(tmp_path / "none.json")
