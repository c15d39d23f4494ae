"""The mixture of experts: its routing, its balance loss, its report, and its cost without data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence

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


# Balance without a loss, room, and experts that choose


def test_the_bias_balances_without_a_loss(build: Build) -> None:
    module = build("moe", width=16, experts=4, top_k=1, routing="sigmoid", bias_step=0.02)
    with torch.no_grad():
        _router(module)[0] += 0.3
    x, router = torch.randn(4, 64, 16) + 0.5, _router(module).detach().clone()
    loads = []
    for _ in range(80):
        module(x)
        loads.append(module.report()["max_load"])
        assert module.aux_loss() is None
        module.after_update()
    assert loads[0] > 1.8 and loads[-1] < 1.2, (loads[0], loads[-1])
    assert torch.equal(_router(module), router)


def test_the_bias_moves_by_the_load_of_a_whole_update(build: Build) -> None:
    """Two parts of a batch, then one update: each expert's bias goes one step against its load."""
    module = build("moe", width=16, experts=4, top_k=2, routing="sigmoid", bias_step=0.01)
    loads = torch.zeros(4)
    for _ in range(2):
        module(torch.randn(2, 30, 16))
        loads += torch.tensor(module.report()["load"])
    assert not module.get_buffer("selection_bias").any(), "a forward leaves the bias alone"
    module.after_update()
    want = 0.01 * (loads.mean() - loads).sign()
    torch.testing.assert_close(module.get_buffer("selection_bias"), want)
    module.after_update()
    torch.testing.assert_close(module.get_buffer("selection_bias"), want)
    module.eval()(torch.randn(2, 30, 16))
    module.after_update()
    torch.testing.assert_close(module.get_buffer("selection_bias"), want)


def test_the_bias_chooses_but_does_not_weigh(build: Build) -> None:
    module = build("moe", width=16, experts=4, top_k=2, routing="sigmoid", weights="raw")
    x = torch.randn(1, 20, 16)
    before = module(x)
    module.get_buffer("selection_bias").fill_(3.0)
    torch.testing.assert_close(module(x), before)
    module.get_buffer("selection_bias")[:2] = 9.0
    module(x)
    assert module.report()["load"] == [0.5, 0.5, 0.0, 0.0]
    torch.testing.assert_close(module(x), module.reference(x))


def test_room_is_given_along_the_sequence(build: Build) -> None:
    """All want one expert: its places go to the first positions of each sequence."""
    module = build("moe", width=16, experts=4, top_k=1, capacity_factor=1.5)
    with torch.no_grad():
        _router(module).zero_()
        _router(module)[2] = 100.0
    x = torch.rand(2, 16, 16)
    y = module(x)
    assert (y.abs().sum(-1) > 0).tolist() == [[True] * 6 + [False] * 10] * 2
    report = module.report()
    assert report["dropped"] == report["unserved"] == pytest.approx(10 / 16)
    torch.testing.assert_close(y, module.reference(x))
    assert bool((module.eval()(x).abs().sum(-1) > 0).all()), "in evaluation none is dropped"
    assert "dropped" not in module.report()


def test_enough_room_is_no_limit(build: Build) -> None:
    free, roomy = (build("moe", width=16, capacity_factor=f) for f in (0.0, 4.0))
    roomy.load_state_dict(free.state_dict())
    x = torch.randn(3, 25, 16)
    torch.testing.assert_close(roomy(x), free(x))
    assert roomy.report()["dropped"] == 0.0


@pytest.mark.parametrize(
    ("params", "claim"),
    [
        ({}, None),
        ({"routing": "sigmoid"}, None),
        ({"capacity_factor": 0.5}, True),
        ({"routing": "expert_choice"}, False),
        ({"routing": "expert_choice", "capacity_factor": 0.5}, False),
    ],
)
def test_what_looks_ahead(params: dict[str, Any], claim: bool | None, build: Build) -> None:
    module = build("moe", width=16, **params)
    assert module.causal(module.params) is claim
    x = torch.randn(1, 24, 16)
    later = x.clone()
    later[:, 12:] = 20 * torch.randn(1, 12, 16)
    apart = (module(x)[:, :12] - module(later)[:, :12]).abs().max()
    assert bool(apart > 1e-4) is (claim is False)


def test_experts_that_choose_have_the_same_load(build: Build) -> None:
    module = build("moe", width=16, experts=4, top_k=1, routing="expert_choice")
    x = torch.randn(2, 20, 16)
    y = module(x)
    report, served = module.report(), (y.abs().sum(-1) > 0).float().mean()
    assert report["load"] == [0.25] * 4 and module.aux_loss() is None
    assert report["unserved"] == pytest.approx(1 - float(served), abs=1e-6)
    assert 0 < 1 - float(served) < 0.75


def test_experts_that_choose_all_are_a_soft_mixture(build: Build) -> None:
    module = build("moe", width=16, experts=2, top_k=2, routing="expert_choice")
    soft = build("moe", width=16, experts=2, top_k=2, weights="raw")
    soft.load_state_dict(module.state_dict())
    x = torch.randn(2, 10, 16)
    torch.testing.assert_close(module(x), soft(x))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"groups": 3},
            "groups: 3 does not divide experts 4 (expected a divisor of 4, got 3); try 2 or 4",
        ),
        (
            {"groups": 2, "top_groups": 3},
            "top_groups: cannot choose more groups than there are (expected at most 2, got 3); "
            "lower top_groups to 2 or raise groups",
        ),
        (
            {"groups": 4, "top_groups": 1},
            "top_k: the groups that a position may choose from have fewer experts (expected at "
            "most 1, got 2); lower top_k to 1 or raise top_groups",
        ),
        (
            {"groups": 2, "routing": "expert_choice"},
            "groups: with expert_choice a position does not choose, so groups have no meaning "
            "(expected 1, got 2); set groups: 1",
        ),
        (
            {"shared_gate": True},
            "shared_gate: there is no shared layer to open; set shared_ratio, or leave "
            "shared_gate out",
        ),
        (
            {"routing": "expert_choice", "weights": "normalised"},
            "weights: with expert_choice a position does not choose, so nothing sums to one "
            "(expected auto or raw, got normalised); set weights: raw",
        ),
    ],
)
def test_settings_that_do_not_go_together(params: dict[str, Any], sentence: str) -> None:
    cls = palette()["moe"].cls
    context = BuildContext((sequence(16),), 16)
    assert [p.sentence() for p in cls.check(cls.Params(**params), context)] == [sentence]


@pytest.mark.parametrize(
    "params",
    [
        {"routing": "sigmoid", "shared_ratio": 1.0},
        {"routing": "expert_choice"},
        {"capacity_factor": 1.0},
    ],
)
def test_other_routings_are_traced_and_compiled(params: dict[str, Any], build: Build) -> None:
    def count(x: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            build("moe", width=16, **params)(x).sum().backward()
        return counter.get_total_flops()

    real = count(torch.randn(2, 40, 16, requires_grad=True))
    with FakeTensorMode():
        assert count(torch.randn(2, 40, 16, requires_grad=True)) == real
    module, x = build("moe", width=16, **params), torch.randn(2, 40, 16)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
