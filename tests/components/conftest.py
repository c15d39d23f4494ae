"""How these tests build a component and give it something to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.fake_run import concrete_shape
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType, sequence

GIVEN = {
    TensorKind.TOKENS: TensorType(TensorKind.TOKENS, ("B", "L"), "int64"),
    TensorKind.SERIES: TensorType(TensorKind.SERIES, ("B", "L", 3)),
    TensorKind.IMAGE: TensorType(TensorKind.IMAGE, ("B", 2, 8, 12)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def context_for() -> Callable[..., BuildContext]:
    """Return the context of a component by name: what it accepts, as often as it needs it."""

    def make(name: str, width: int = 64, **params: Any) -> BuildContext:
        cls = palette()[name].cls
        kind = sorted(cls.accepts)[0]
        lengths = cls.input_lengths(cls.Params(**params))
        return BuildContext(
            tuple(GIVEN.get(kind, sequence(width, length)) for length in lengths), width
        )

    return make


@pytest.fixture
def build(context_for: Callable[..., BuildContext]) -> Callable[..., Component]:
    """Build a component by name with parameters, after its own check has passed."""

    def make(name: str, width: int = 64, **params: Any) -> Component:
        cls = palette()[name].cls
        context = context_for(name, width, **params)
        checked = cls.Params(**params)
        assert [p for p in cls.check(checked, context) if p.severity == "error"] == []
        return cls(checked, context)

    return make


@pytest.fixture
def give() -> Callable[..., list[Tensor]]:
    """Draw inputs for a component: tokens below its vocabulary, else values from N(0, 1)."""

    def draw(
        module: Component, batch: int = 2, length: int = 16, grad: bool = False
    ) -> list[Tensor]:
        drawn = []
        for kind in module.context.inputs:
            shape = concrete_shape(kind, batch, length)
            if kind.kind is TensorKind.TOKENS:
                drawn.append(torch.randint(module.params.vocab, shape))
            else:
                drawn.append(torch.randn(shape).requires_grad_(grad))
        return drawn

    return draw
