"""The settings of a teacher: what they refuse, which losses count when, and which components are paired."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.components.registry import palette
from hybridlab.errors import SpecError
from hybridlab.training.spec import TrainSpec, make
from hybridlab.training.teacher_layers import at_same_depth, suggested


def _made(**teacher: Any) -> TrainSpec:
    return make({"task": "parity", "teacher": teacher})


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({}, "a teacher is a run, or an architecture"),
        ({"architecture": "lstm_mini"}, "a teacher is a run, or an architecture"),
        ({"run": "a", "weights": "b"}, "of its own"),
        ({"run": "a", "logits": None}, "nothing of the teacher counts"),
        ({"run": "a", "phases": [{"losses": ["hidden"]}]}, "counts hidden, which is not set"),
        (
            {"run": "a", "phases": [{"losses": ["logits"]}, {"losses": ["hard"]}]},
            "only the last",
        ),
        ({"run": "a", "phases": [{"losses": []}]}, "wrong length"),
        ({"run": "a", "logits": {"temperature": 0}}, "teacher.logits.temperature"),
        ({"run": "a", "temperature": 2}, "teacher.temperature: unknown key"),
        ({"run": "a", "phases": [{"losses": ["soft"]}]}, "not one of the choices"),
    ],
)
def test_wrong_settings_say_what_is_wrong(teacher: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        _made(**teacher)


def test_phases_follow_each_other_and_the_last_goes_on() -> None:
    spec = _made(
        run="a",
        hidden={},
        matrices={},
        phases=[
            {"losses": ["matrices"], "steps": 2},
            {"losses": ["hidden"], "steps": 3},
            {"losses": ["logits", "hard"]},
        ],
    ).teacher
    assert spec is not None
    assert [spec.phase_at(step) for step in range(7)] == [0, 0, 1, 1, 1, 2, 2]
    assert spec.losses_at(4) == {"hidden"} and spec.losses_at(999) == {"logits", "hard"}
    assert spec.begins() == (0, 2, 5)
    alone = _made(run="a").teacher
    assert alone is not None and alone.losses_at(5) == {"hard", "logits"} == alone.active


def test_settings_survive_json() -> None:
    spec = _made(run="a", layers=[{"teacher": "x", "student": "y"}], hidden={"weight": 2})
    assert make(spec.model_dump(mode="json")) == spec


def test_depth_is_counted_so_that_the_last_meets_the_last() -> None:
    assert [at_same_depth(place, 2, 4) for place in range(2)] == [1, 3]
    assert [at_same_depth(place, 4, 2) for place in range(4)] == [0, 0, 1, 1]
    assert [at_same_depth(place, 3, 3) for place in range(3)] == [0, 1, 2]
    assert at_same_depth(0, 5, 1) == 0


def _kind(name: str) -> str:
    return str(palette()[name].kind)


def test_mixers_are_paired_with_mixers_whatever_stands_between() -> None:
    teacher = loads(
        "name: t\nnodes:\n  - {id: b, repeat: 4, nodes: [{use: attention}, {use: swiglu}]}\n"
    )
    student = loads("name: s\nnodes: [{use: mamba2}, {use: swiglu}, {id: last, use: lstm}]\n")
    found = [(pair.teacher, pair.student) for pair in suggested(teacher, student, _kind)]
    assert found == [("b.1.attention", "mamba2"), ("b.3.attention", "last")]
    plain = loads("name: p\nnodes: [{use: swiglu}]\n")
    assert [(p.teacher, p.student) for p in suggested(teacher, plain, _kind)] == [
        ("b.3.swiglu", "swiglu")
    ]
