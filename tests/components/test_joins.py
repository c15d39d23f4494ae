"""What is special to joins and routers of several branches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.model import build as build_model
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence

Build = Callable[..., Component]

WIDTH, STREAMS = 16, 3
LAYERS = ("short_conv", "swiglu", "mlp")


def _of_streams(name: str, **params: object) -> Component:
    """Build one half of hyper-connections for streams side by side, with weights drawn at random."""
    cls = palette()[name].cls
    inputs = (sequence(STREAMS * WIDTH), sequence(WIDTH))[: cls.min_inputs]
    checked, context = cls.Params(streams=STREAMS, **params), BuildContext(inputs, WIDTH)
    assert list(cls.check(checked, context)) == []
    module = cls(checked, context)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_scales_weigh_branches(build: Build) -> None:
    x, y = torch.randn(2, 2, 5, WIDTH)
    module = build("sum", width=WIDTH, scales=[2.0, -1.0])
    torch.testing.assert_close(module(x, y), 2 * x - y)


def test_scales_are_as_many_as_branches() -> None:
    cls = palette()["sum"].cls
    (problem,) = cls.check(cls.Params(scales=[1.0]), BuildContext((sequence(8),) * 2, 8))
    assert problem.sentence() == (
        "scales: there must be one for each branch (expected 2 numbers, got 1); "
        "leave scales out to add the branches as they are"
    )


def test_streams_are_the_paper_in_matrices() -> None:
    """Width and depth connections of one layer as equations 1 to 13 have them."""
    read, write = _of_streams("hyper_read"), _of_streams("hyper_write")
    h, y = torch.randn(2, 5, STREAMS, WIDTH), torch.randn(2, 5, WIDTH)
    normed = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def weights(module: Component, name: str) -> Tensor:
        fixed, table, factor = (
            module.get_parameter(f"{name}.{part}") for part in ("fixed", "map", "factor")
        )
        return fixed + factor * torch.tanh(normed @ table)

    a_m, a_r, b = weights(read, "weights"), weights(write, "mix"), weights(write, "add")
    torch.testing.assert_close(read(h.flatten(-2)), (a_m.mT @ h).squeeze(-2), rtol=1e-4, atol=1e-5)
    want = b * y.unsqueeze(-2) + a_r.mT @ h
    torch.testing.assert_close(write(h.flatten(-2), y), want.flatten(-2), rtol=1e-4, atol=1e-5)
    for module, given in ((read, (h.flatten(-2),)), (write, (h.flatten(-2), y))):
        torch.testing.assert_close(module(*given), module.reference(*given), rtol=1e-4, atol=1e-5)


def _layers() -> list[dict[str, object]]:
    """Return three layers with hyper-connections, as nodes."""
    nodes: list[dict[str, object]] = []
    for i, use in enumerate(LAYERS):
        before, streams = f"write{i - 1}" if i else "input", {"streams": 4}
        nodes += [
            {
                "id": f"read{i}",
                "use": "hyper_read",
                "inputs": [before],
                "params": streams | {"first": i},
            },
            {"id": f"norm{i}", "use": "rms_norm"},
            {"id": f"layer{i}", "use": use, "residual": "none"},
            {
                "id": f"write{i}",
                "use": "hyper_write",
                "inputs": [before, f"layer{i}"],
                "params": streams,
            },
        ]
    return [*nodes, {"id": "end", "use": "hyper_read", "params": {"streams": 4, "total": True}}]


def test_hyper_connections_begin_as_residuals() -> None:
    """Before training, every stream holds what residual connections would, so their sum is four times that."""
    plainly = [{"id": f"layer{i}", "use": use} for i, use in enumerate(LAYERS)]
    hyper, plain = (
        build_model(Architecture.model_validate({"name": "x", "width": 16, "nodes": nodes}), seed=1)
        for nodes in (_layers(), plainly)
    )
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(hyper(x), 4 * plain(x), rtol=1e-4, atol=1e-4)


def test_streams_refuse_another_number() -> None:
    cls = palette()["hyper_write"].cls
    context = BuildContext((sequence(32), sequence(16)), 16)
    (problem,) = cls.check(cls.Params(streams=4), context)
    assert problem.path == "streams" and problem.fix == "set streams to 2"
    context = BuildContext((sequence(16), sequence(32)), 16)
    (problem,) = cls.check(cls.Params(), context)
    assert problem.path == "inputs[1]"


@pytest.mark.parametrize("output", ["weighted", "straight_through"])
def test_each_position_has_one_branch(output: str) -> None:
    cls = palette()["routed_choice"].cls
    branches = 3
    module = cls(cls.Params(output=output), BuildContext((sequence(WIDTH),) * branches, WIDTH))
    given = torch.randn(branches, 2, 40, WIDTH).requires_grad_()
    result = module(*given)
    ratio = (result / given).detach()
    same = (ratio - ratio[..., :1]).abs().amax(-1) < 1e-4
    assert same.sum(0).eq(1).all()
    factor = ratio[same][:, 0]
    assert bool((factor == 1).all()) is (output == "straight_through")
    result.square().sum().backward()
    grad = module.get_parameter("router.weight").grad
    assert grad is not None and bool(grad.abs().max() > 1e-3)
    assert given.grad is not None
    torch.testing.assert_close(module(*given), module.reference(*given))
    load = module.report()["load"]
    assert isinstance(load, list) and sum(load) == pytest.approx(1)


def test_the_choice_is_balanced_by_its_loss(build: Build) -> None:
    module = build("routed_choice", width=WIDTH, balance_weight=1.0)
    x = torch.randn(2, 4, 64, WIDTH) + 0.5
    with torch.no_grad():
        module.get_parameter("router.weight")[0] += 0.3
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    loads = []
    for _ in range(40):
        module(*x)
        loads.append(module.report()["max_load"])
        loss = module.aux_loss()
        assert loss is not None
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loads[0] > 1.8 and loads[-1] < 1.2, (loads[0], loads[-1])
