"""Fake tensors with short ways for views say what real tensors say, and what torch's own fake tensors count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hybridlab.architecture.document import loads
from hybridlab.architecture.fake_mode import _VIEWS, QuickFakeMode
from hybridlab.architecture.infer import infer
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.trace import component_cost
from hybridlab.trace.component_cost import Traced
from hybridlab.workflows.doctor import _FORMS

VIEWS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], tuple[Any, ...]], ...] = (
    ("view.default", (2, 1, 4, 24, 24), (2304, 2304, 1, 96, 4), ([2, 1, 1, 4, 24, 24],)),
    ("view.default", (2, 24, 1, 64), (1536, 64, 1, 1), ([48, 1, 64],)),
    ("view.default", (2, 3, 4), (12, 4, 1), ([-1],)),
    ("view.default", (0, 3), (3, 1), ([3, 0],)),
    ("_unsafe_view.default", (6, 4), (4, 1), ([2, 3, 4],)),
    ("transpose.int", (2, 3, 4), (12, 4, 1), (-1, 0)),
    ("t.default", (3, 1), (1, 1), ()),
    ("unsqueeze.default", (3, 1), (1, 7), (1,)),
    ("squeeze.dim", (3, 1, 2), (2, 9, 1), (1,)),
    ("expand.default", (3, 1), (1, 5), ([2, -1, 4],)),
    ("permute.default", (2, 3, 4), (12, 4, 1), ([2, 0, 1],)),
    ("slice.Tensor", (5, 4), (4, 1), (0, 1, 5, 2)),
    ("select.int", (5, 4), (4, 1), (1, -1)),
)


def overload(name: str) -> Any:
    packet, _, kind = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), kind)


def test_every_short_way_is_tested_here() -> None:
    assert {overload(name) for name, *_ in VIEWS} == _VIEWS


@pytest.mark.parametrize(("name", "shape", "strides", "more"), VIEWS)
def test_a_view_lies_as_it_does_in_real_memory(
    name: str, shape: tuple[int, ...], strides: tuple[int, ...], more: tuple[Any, ...]
) -> None:
    func = overload(name)
    real = func(torch.empty_strided(shape, strides), *more)
    with QuickFakeMode():
        given = torch.empty_strided(shape, strides, requires_grad=True)
        found = func(given, *more)
    assert isinstance(found, FakeTensor)
    assert (found.shape, found.stride()) == (real.shape, real.stride())
    assert found.storage_offset() == real.storage_offset()
    assert found.untyped_storage()._cdata == given.untyped_storage()._cdata
    assert (found.device, found.dtype) == (torch.device("cpu"), torch.float32)
    assert found.requires_grad and found.grad_fn is not None


def test_a_view_that_cannot_be_is_refused_as_on_real_tensors() -> None:
    real = torch.empty(3, 4).t()
    with pytest.raises(RuntimeError) as wanted:
        real.view(12)
    with QuickFakeMode():
        fake = torch.empty(3, 4).t()
        with pytest.raises(RuntimeError) as found:
            fake.view(12)
    assert str(found.value).splitlines()[0] == str(wanted.value).splitlines()[0]


def test_numbers_that_are_known_stay_known() -> None:
    with QuickFakeMode():
        number = torch.tensor([[3.0]]).view(1)
        assert float(number) == 3.0


def traced(use: str, monkeypatch: pytest.MonkeyPatch, mode: Any) -> Traced | None:
    """Trace a component of the palette in a mode, with nothing remembered; None for one that needs others beside it."""
    info = palette()[use]
    kind = sorted(info.cls.accepts)[0]
    shape, dtype = _FORMS[kind]
    count = max(1, info.cls.min_inputs)
    inputs = "" if count == 1 else f", inputs: [{', '.join(['input'] * count)}]"
    text = f"name: x\nwidth: 64\nnodes:\n  - {{id: a, use: {use}{inputs}}}\n"
    plans = list(infer(loads(text), TensorType(kind, shape, dtype), length=16).slots.values())
    if not plans:
        return None
    monkeypatch.setattr(component_cost, "QuickFakeMode", mode)
    monkeypatch.setattr(component_cost, "_trace", component_cost._trace.__wrapped__)
    return component_cost.trace_slot(plans[0], "rms_norm", 2, 16)


@pytest.mark.parametrize("use", sorted(palette()))
def test_every_component_counts_as_with_torchs_own(
    use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = traced(use, monkeypatch, QuickFakeMode)
    monkeypatch.undo()
    plain = traced(use, monkeypatch, FakeTensorMode)
    assert quick == plain


def test_an_lstms_two_biases_have_a_gradient_each() -> None:
    """torch's own fake LSTM gives one tensor for both, but only until its answer is in the cache."""
    with QuickFakeMode() as mode:
        mode.cache_clear()
        layer = torch.nn.LSTM(8, 4, batch_first=True)
        output, _ = layer(torch.empty(2, 3, 8))
        grads = torch.autograd.grad(output.sum(), list(layer.parameters()))
        storages = {grad.untyped_storage()._cdata for grad in grads}
    assert len(storages) == 4


def test_a_gradient_flows_through_views() -> None:
    def loss(x: Tensor) -> Tensor:
        return (x.view(4, 3).t().unsqueeze(0).expand(2, 3, 4)[:, 1:] * 2).sum()

    with QuickFakeMode():
        x = torch.empty(2, 6, requires_grad=True)
        (found,) = torch.autograd.grad(loss(x), x)
        assert found.shape == x.shape and found.stride() == (6, 1)


@pytest.mark.parametrize("cast", [None, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "more"),
    [("native_layer_norm", ([8], 1e-5)), ("native_group_norm", (2, 8, 8, 2, 1e-5))],
)
def test_statistics_of_norms_have_the_real_type(
    name: str, more: tuple[Any, ...], cast: torch.dtype | None
) -> None:
    def given(weights: bool) -> tuple[Any, ...]:
        x, weight = torch.randn(2, 8, 8, dtype=cast), torch.ones(8) if weights else None
        shape, *numbers = more
        if name == "native_layer_norm":
            return (x, shape, weight, weight, *numbers)
        return (x, weight, weight, *more)

    for weights in (True, False):
        real = getattr(torch, name)(*given(weights))
        with QuickFakeMode():
            fake = getattr(torch, name)(*given(weights))
        assert [one.dtype for one in fake] == [one.dtype for one in real]
