"""A step that is put together from its parts is the step that is traced as a whole, to the byte."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.hardware.ceilings import Bandwidth
from hybridlab.hardware.roofline import Roofline
from hybridlab.planning.choices import Choice, Choices, choices
from hybridlab.planning.plain_step import PlainStep
from hybridlab.planning.planner import planner, row_us
from hybridlab.planning.segments import kinds
from hybridlab.planning.segments.compose import plain_step, put_together
from hybridlab.planning.segments.record import UnusualError
from hybridlab.planning.tracing import trace_plain
from hybridlab.planning.training_step import recipe
from hybridlab.tasks.registry import fit
from hybridlab.trace.calibration import Calibration
from hybridlab.trace.exact import Recipe
from hybridlab.training.defaults import prepare
from tests.planning.steps import NODES, text
from tests.planning.test_equality import INPUTS, network

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from random_architectures import random_architecture

pytestmark = pytest.mark.usefixtures("only_new_garbage")
MANY = int(os.environ.get("HYBRIDLAB_RANDOM_ARCHITECTURES", "0"))
SEEDS = list(range(MANY)) or [2]
USES = list(palette()) if MANY else ["moe", "lstm"]
ROOFLINE = Roofline(5e10, (Bandwidth(1 << 20, 5e10), Bandwidth(1 << 40, 1e10)), 1e-6, "made up")
Sizes = tuple[int, ...]


def told(step: PlainStep, architecture: Architecture, kind: TensorType | None) -> Any:
    """Return all choices of a step, storages by their bytes: numbers of storages differ, which means nothing."""
    rows = row_us(step, infer(architecture, kind), ROOFLINE, Calibration())
    found = choices(step, rows, plain_us=1.0, span_us=150, span_bytes=5056)

    def by_size(storages: frozenset[int]) -> Sizes:
        return tuple(sorted(found.sizes[one] for one in storages))

    def of(one: Choice) -> tuple[Any, ...]:
        mine = {**vars(one)}
        for name in ("need", "keeps", "ahead_need"):
            mine[name] = by_size(mine[name])
        return tuple(mine.values())

    starting: Sequence[Sequence[Choice]] = found.starting
    assert isinstance(found, Choices)
    return (
        found.units,
        found.floor_bytes,
        [by_size(border) for border in found.crossing],
        [[of(one) for one in some] for some in starting],
    )


def check(
    architecture: Architecture,
    kind: TensorType | None = None,
    made: Recipe | None = None,
    batch: int = 2,
    length: int = 12,
) -> None:
    """Hold both against each other."""
    asked: dict[str, Any] = {"batch": batch, "length": length, "recipe": made or Recipe()}
    inference = infer(architecture, kind)
    whole = trace_plain(architecture, inference, **asked)
    for _ in range(2):  # recorded, and remembered
        parts = put_together(architecture, inference, **asked)
        assert told(parts, architecture, kind) == told(whole, architecture, kind)
    assert parts.names == whole.names and parts.held == whole.held


@pytest.mark.parametrize("name", [name for name in NODES if name not in ("shared", "exit")])
def test_small_steps_are_equal(name: str) -> None:
    check(loads(text(NODES[name])))


def test_a_loss_on_the_way_is_traced_with_the_whole() -> None:
    architecture = loads(text(NODES["exit"]))
    asked: dict[str, Any] = {"batch": 2, "length": 12, "recipe": Recipe()}
    inference = infer(architecture)
    with pytest.raises(UnusualError, match="early exit"):
        put_together(architecture, inference, **asked)
    found = plain_step(architecture, inference, **asked)
    whole = trace_plain(architecture, inference, **asked)
    assert told(found, architecture, None) == told(whole, architecture, None)


@pytest.mark.parametrize("name", ["skips", "recurrent"])
def test_small_steps_are_equal_in_bfloat16_and_in_parts(name: str) -> None:
    narrow = Recipe(lambda output, _: output.float().square().mean(), cast=torch.bfloat16, parts=3)
    check(loads(text(NODES[name])), made=narrow, batch=4)


@pytest.mark.parametrize("use", USES)
def test_steps_with_a_component_are_equal(use: str) -> None:
    check(network(use), INPUTS.get(use))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_steps_are_equal(seed: int) -> None:
    try:
        check(random_architecture(seed))
    except UnusualError as error:
        assert "twice" in str(error)


@pytest.mark.parametrize(
    ("preset", "task", "beside"),
    [
        ("jamba_mini", "digits_sequence", {}),
        (
            "transformer_mini",
            "mqar",
            {
                "groups": [
                    {"name": "still", "use": "token_embedding", "frozen": True},
                    {"name": "maps", "use": "swiglu", "optimiser": "muon"},
                ]
            },
        ),
        ("transformer_mini", "mqar", {"precision": "bfloat16"}),
        ("samba_mini", "mqar", {"precision": "bfloat16", "accumulation": 2}),
    ],
)
def test_trainings_are_equal(preset: str, task: str, beside: dict[str, Any]) -> None:
    chosen, spec = prepare({"task": task, "batch": 2, "device": "cpu", **beside})
    data = chosen.train_batch(0, spec.batch, spec.seed)
    check(
        fit(open_architecture(preset), chosen),
        chosen.input_type(),
        recipe(chosen, spec, data.targets),
        spec.batch,
        chosen.length,
    )


def test_shared_weights_get_one_gradient_after_the_other() -> None:
    architecture = loads(
        "name: x\nwidth: 16\nnodes: [{use: token_embedding, vocab: 9}, {use: mlp}, "
        "{use: lm_head, vocab: 9, tied: true}]"
    )
    assert infer(architecture).shares
    check(architecture)
    asked: dict[str, Any] = {"batch": 2, "length": 12, "recipe": Recipe(parts=2)}
    with pytest.raises(UnusualError, match="old one"):
        put_together(architecture, infer(architecture), **asked)


def test_a_tied_group_is_traced_as_a_whole() -> None:
    architecture = loads(text(NODES["shared"]))
    inference = infer(architecture)
    asked: dict[str, Any] = {"batch": 2, "length": 12, "recipe": Recipe()}
    with pytest.raises(UnusualError):
        put_together(architecture, inference, **asked)
    whole = trace_plain(architecture, inference, **asked)
    again = plain_step(architecture, inference, **asked)
    assert told(again, architecture, None) == told(whole, architecture, None)


def test_an_edit_records_what_it_changed_alone() -> None:
    def recorded(nodes: str) -> int:
        before = kinds.recorded.cache_info().misses
        planner(loads(text(nodes)), batch=3, length=17, roofline=ROOFLINE)
        return kinds.recorded.cache_info().misses - before

    nodes = [f"{{use: {use}}}" for use in ("mlp", "swiglu", "mlp", "attention, heads: 2", "mlp")]
    assert recorded(", ".join(nodes)) == 4  # the first one need not give a gradient on
    assert recorded(", ".join(nodes)) == 0
    assert recorded(", ".join([*nodes[:3], "{use: attention, heads: 4}", nodes[4]])) == 1
    assert recorded(", ".join([*nodes, *nodes])) == 0


def test_nothing_of_the_traced_step_stays_behind() -> None:
    gc.collect()
    before = sum(isinstance(one, torch.Tensor) for one in gc.get_objects())
    planner(loads(text(NODES["skips"])), batch=2, length=13, roofline=ROOFLINE)
    gc.collect()
    after = sum(isinstance(one, torch.Tensor) for one in gc.get_objects())
    assert after <= before
