"""Parts of a model that an input does not reach run nothing and allocate nothing, by what really happened in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.trace.exact import record
from hybridlab.trace.step import TrainingStep
from hybridlab.trace.stream import OpStream

SERIES = TensorType(TensorKind.SERIES, ("B", "L", 2))
PRODUCTS = ("mm", "addmm", "bmm")


def made(*nodes: str) -> GraphModel:
    lines = "".join(f"  - {node}\n" for node in ("{use: pixel_series}", *nodes))
    return build(loads(f"name: parts\nwidth: 16\nnodes:\n{lines}"), SERIES, seed=0)


def happened(model: GraphModel, *, training: bool) -> OpStream:
    x = torch.randn(4, 10, 2, generator=torch.Generator().manual_seed(1))
    step = TrainingStep(model, (x,)) if training else TrainingStep(model.eval(), (x,), loss=None)
    return record(step, "measured")


def products(stream: OpStream, component: str) -> list[int]:
    """Return the bytes that each matrix product of a component writes on the way forward."""
    return [
        row["bytes_written"]
        for row in rows(stream, component)
        if row["phase"] == "forward" and row["op"] in PRODUCTS
    ]


def rows(stream: OpStream, component: str) -> list[dict[str, Any]]:
    return [row for row in stream.ops.to_pylist() if row["component"] == component]


@pytest.mark.parametrize("training", [False, True])
def test_experts_that_nobody_chose_do_not_run(training: bool) -> None:
    found = {}
    for experts in (2, 64):
        model = made(f"{{id: many, use: moe, experts: {experts}, top_k: 1}}")
        dict(model.slots())["many"].body.use_experts(2)
        found[experts] = products(happened(model, training=training), "many")
    router, *by_expert = found[64]
    assert len(by_expert) == 4 and all(by_expert), "two experts of two maps each"
    assert sum(by_expert) == sum(found[2][1:]) and router == 32 * found[2][0]


def test_gradients_of_experts_without_positions_are_zero() -> None:
    model = made("{id: many, use: moe, experts: 3, top_k: 1}")
    body = dict(model.slots())["many"].body
    body.use_experts(1)
    model(torch.randn(2, 5, 2)).sum().backward()
    for name in ("experts_in", "experts_out"):
        grad = body.get_parameter(name).grad
        assert grad is not None and grad[0].any() and not grad[1:].any()


def test_a_mixture_of_depths_that_chooses_nobody_computes_nothing() -> None:
    model = made("{id: deep, use: mixture_of_depths}")
    torch.nn.init.zeros_(dict(model.slots())["deep"].body.get_parameter("router.weight"))
    router, *layer = products(happened(model, training=False), "deep")
    assert router and not any(layer)


def test_behind_an_exit_that_all_take_nothing_is_allocated() -> None:
    model = made(
        "{id: out, use: early_exit, outputs: 3, threshold: 0.0}",
        "{id: late, use: attention, heads: 2}",
        "{id: head, use: classifier, classes: 3}",
    )
    stream = happened(model, training=False)
    made_by = Counter(
        row["component"] for row in stream.storages.to_pylist() if row["category"] != "weights"
    )
    ran = Counter(row["component"] for row in stream.ops.to_pylist())
    assert made_by["out"] and ran["out"]
    assert not any(made_by[name] or ran[name] for name in ("late", "head"))
    model.leaving = False
    assert rows(happened(model, training=False), "late")
