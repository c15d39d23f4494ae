"""The mixture of experts: its routing, its balance loss, its report, and its cost without data."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hybridlab.components.base import Component

Build = Callable[..., Component]


def _router(module: Component) -> Tensor:
    weight = module.get_parameter("router.weight")
    assert isinstance(weight, Tensor)
    return weight


def test_balance_loss_is_the_formula_of_switch(build: Build) -> None:
    module = build("moe", width=16, experts=4, top_k=1, balance_weight=0.3)
    x = torch.randn(2, 50, 16)
    module(x)
    probabilities = (x @ _router(module).T).softmax(-1).flatten(0, 1)
    share = torch.stack([(probabilities.argmax(-1) == e).float().mean() for e in range(4)])
    want = 0.3 * 4 * (share * probabilities.mean(0)).sum()
    loss = module.aux_loss()
    assert loss is not None
    torch.testing.assert_close(loss, want)


def test_balance_loss_pushes_towards_balance(build: Build) -> None:
    module = build("moe", width=16, experts=4, top_k=2, balance_weight=1.0)
    with torch.no_grad():
        _router(module)[0] += 0.3  # everyone likes the first expert
    x = torch.randn(4, 64, 16) + 0.5
    optimiser = torch.optim.SGD([_router(module)], lr=1.0)
    loads = []
    for _ in range(60):
        module(x)
        loads.append(module.report()["max_load"])
        loss = module.aux_loss()
        assert loss is not None
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loads[0] > 1.8 and loads[-1] < 1.2, (loads[0], loads[-1])


def test_equal_probabilities_cost_the_weight_itself(build: Build) -> None:
    module = build("moe", width=16, experts=4, balance_weight=0.5)
    torch.nn.init.zeros_(_router(module))
    module(torch.randn(1, 40, 16))
    loss = module.aux_loss()
    assert loss is not None and loss.item() == pytest.approx(0.5)
    assert module.report()["router_entropy"] == pytest.approx(math.log(4))


def test_no_weight_no_loss(build: Build) -> None:
    module = build("moe", width=16, balance_weight=0.0)
    module(torch.randn(1, 4, 16))
    assert module.aux_loss() is None


def test_report_tells_shares_of_the_load(build: Build) -> None:
    module = build("moe", width=16, experts=5, top_k=2)
    assert module.report() == {} and module.aux_loss() is None
    module(torch.randn(3, 20, 16))
    report = module.report()
    load = report["load"]
    assert isinstance(load, list) and sum(load) == pytest.approx(1)
    assert report["max_load"] == pytest.approx(max(load) * 5)


@pytest.mark.parametrize(("top_k", "trains"), [(1, True), (2, True)])
def test_the_router_learns_from_the_task_alone(top_k: int, trains: bool, build: Build) -> None:
    """With one expert chosen, a weight made to sum to one would be constant and teach nothing."""
    module = build("moe", width=16, top_k=top_k)
    module(torch.randn(2, 30, 16)).square().sum().backward()
    grad = _router(module).grad
    assert grad is not None and bool(grad.abs().max() > 1e-4) is trains


def test_all_positions_on_one_expert(build: Build) -> None:
    """Experts without work keep a gradient of zero, and the result is that of the mask form."""
    module = build("moe", width=16, experts=4, top_k=1)
    with torch.no_grad():
        _router(module).zero_()
        _router(module)[2] = 100.0
    x = torch.rand(2, 9, 16)
    torch.testing.assert_close(module(x), module.reference(x))
    module(x).sum().backward()
    grad = module.get_parameter("experts_in").grad
    assert grad is not None
    assert [bool(g.any()) for g in grad] == [False, False, True, False]


@pytest.mark.parametrize("positions", [1, 3, 50])
def test_operations_without_data_are_those_with_data(positions: int, build: Build) -> None:
    def count(x: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            build("moe", width=16, experts=4)(x).sum().backward()
        return counter.get_total_flops()

    real = count(torch.randn(2, positions, 16, requires_grad=True))
    with FakeTensorMode():
        fake = count(torch.randn(2, positions, 16, requires_grad=True))
    assert fake == real > 0
