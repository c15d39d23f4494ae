"""Stages that cannot be, or that ask for what a model or a task does not have, are told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridlab.errors import SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task
from hybridlab.training.loop import train
from hybridlab.workflows.launch import prepared
from tests.training.staged import HARD, hybrid, staged, trained

WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "endless": ([{"name": "a"}, {"name": "b"}], "only the last stage has no end"),
    "ended": ([{"name": "a", "until": 3}], "the last stage goes to the end"),
    "twice": ([{"name": "a", "until": 3}, {"name": "a"}], "name of another stage"),
    "long": ([{"name": "a", "until": 14}, {"name": "b"}], "might never begin"),
    "at first": ([{"name": "a", "until": 3, "grow": {"stage": 1}}, {"name": "b"}], "nothing to"),
    "experts": ([{"name": "a", "experts": 2}], "trains all experts"),
    "negative": ([{"name": "a", "until": 0}, {"name": "b"}], "at least 1"),
    "unknown": ([{"name": "a", "colour": 1}], "unknown key"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_settings_that_cannot_be(case: str) -> None:
    stages, said = WRONG[case]
    with pytest.raises(SpecError, match=said):
        staged(stages)


MISFIT: dict[str, tuple[dict[str, Any], str]] = {
    "vocab": ({"task_params": {"vocab": 32}}, "more symbols than token_embedding was built for"),
    "answers": ({"task_params": {"vocab": 32}}, "other answers than the model gives"),
    "parameter": ({"task_params": {"pears": 2}}, r"stages\[0\]\.task_params\.pears: unknown key"),
    "pairs": ({"task_params": {"pairs": 9}}, r"stages\[0\]\.task_params: 9 pairs"),
    "freeze": ({"freeze": "nobody"}, r"stages\[0\]\.freeze: fits no weights"),
    "all": ({"freeze": "*"}, "freezes every weight"),
    "open": ({"open": {"nobody": 3}}, r"stages\[0\]\.open: fits no branch"),
    "join": ({"open": {"a|s": 3}}, "no open branch"),
    "group": ({"name": "b", "grow": {"nobody": 1}}, "fits no group"),
}


@pytest.mark.parametrize("case", sorted(MISFIT))
def test_what_the_model_or_the_task_does_not_have_is_told_before(
    case: str, tmp_path: Path, mqar: Task
) -> None:
    stage, said = MISFIT[case]
    first = {"name": "a", "until": 3}
    stages = [first, stage, {"name": "c"}] if "grow" in stage else [first | stage, {"name": "c"}]
    if "grow" in stage:
        stages[1] = {**stage, "until": 3}
    with pytest.raises(SpecError, match=said):
        trained(mqar, staged(stages), tmp_path)


def test_too_few_experts_are_told(tmp_path: Path) -> None:
    what = task("mqar", **HARD)
    text = "name: x\nwidth: 8\nnodes:\n  - {use: gru}\n  - {use: moe, experts: 4, top_k: 2}\n"
    spec = staged([{"name": "a", "until": 3, "experts": 1}, {"name": "b"}])
    with pytest.raises(SpecError, match="2 experts work on each position"):
        train(hybrid(what, text), what, spec, folder=tmp_path)


def test_a_run_is_not_queued_with_stages_that_its_design_does_not_have() -> None:
    text = "name: x\nwidth: 8\nnodes:\n  - {id: stage, nodes: [{use: gru}]}\n"
    stages = [{"name": "a", "until": 3}, {"name": "b", "grow": {"stage": 1}}]
    with pytest.raises(SpecError, match="no last map that could begin at zero"):
        prepared(text, {"task": "parity", "device": "cpu", "stages": stages})
    found = prepared(text.replace("gru", "lru"), {"task": "parity", "stages": stages})
    assert found["training"]["stages"][1]["grow"] == {"stage": 1}
