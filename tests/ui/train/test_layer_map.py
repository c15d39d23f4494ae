"""The map of a student's components to a teacher's: what clicks on the two diagrams make of it."""

from __future__ import annotations

from hybridlab.architecture.document import loads
from hybridlab.components.registry import palette
from hybridlab.ui.train.layer_map import joined, numbers, places_of

TEACHER = loads(
    "name: t\nwidth: 8\nnodes:\n  - id: stage\n    repeat: 4\n    nodes: [{use: attention, heads: 2}, {use: mlp}]\n"
    "  - {use: gru}\n"
)
STUDENT = loads(
    "name: s\nwidth: 8\nnodes:\n  - id: part\n    repeat: 2\n    nodes: [{use: mamba2, heads: 2}]\n  - {use: lstm}\n"
)


def kinds(use: str) -> str:
    return str(palette()[use].kind)


def test_a_click_pairs_repeats_at_the_same_depth_and_another_takes_them_apart() -> None:
    teacher, student = places_of(TEACHER, kinds), places_of(STUDENT, kinds)
    attention, gru = "nodes[0].nodes[0]", "nodes[1]"
    assert teacher[attention] == [f"stage.{place}.attention" for place in range(4)]
    mamba2, lstm = "nodes[0].nodes[0]", "nodes[1]"
    order = ["part.0.mamba2", "part.1.mamba2", "lstm"]
    one = joined([], student, lstm, teacher[gru], order)
    assert one == [{"teacher": "gru", "student": "lstm"}]
    both = joined(one, student, mamba2, teacher[attention], order)
    assert both == [
        {"teacher": "stage.1.attention", "student": "part.0.mamba2"},
        {"teacher": "stage.3.attention", "student": "part.1.mamba2"},
        {"teacher": "gru", "student": "lstm"},
    ]
    marks = numbers(both, teacher)
    assert [marks[pair["teacher"]] for pair in both] == ["1", "1", "2"]
    again = joined(both, student, lstm, teacher[attention], order)
    assert [pair["teacher"] for pair in again if pair["student"] == "lstm"] == ["stage.3.attention"]
    assert joined(both, student, mamba2, (), order) == one
