"""Layers of other libraries as special cases of the channel mixers, and what is special to each mixer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridlab.components.base import Component
from hybridlab.components.channel_mixers.kan import uniform_splines

Build = Callable[..., Component]

WIDTH, HIDDEN = 16, 32


def _peer(family: str, block: str, config: str, **settings: Any) -> nn.Module:
    """Return a block of transformers with random weights."""
    transformers = importlib.import_module("transformers")
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    made = getattr(module, block)(getattr(transformers, config)(hidden_size=WIDTH, **settings))
    assert isinstance(made, nn.Module)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def _put(module: Component, weights: dict[str, Tensor]) -> None:
    """Load weights, all of them and no others."""
    module.load_state_dict({name: value.detach().clone() for name, value in weights.items()})


def _same(module: Component, peer: nn.Module) -> None:
    x = torch.randn(2, 9, WIDTH)
    torch.testing.assert_close(module(x), peer(x), rtol=1e-4, atol=1e-5)


def test_nemotron_h_is_relu_squared_without_offsets(build: Build) -> None:
    peer = _peer("nemotron_h", "NemotronHMLP", "NemotronHConfig", intermediate_size=HIDDEN)
    module = build("mlp", width=WIDTH, ratio=2.0, activation="relu_squared", bias=False)
    names = {"project_in.weight": "up_proj.weight", "project_out.weight": "down_proj.weight"}
    _put(module, {mine: peer.get_parameter(theirs) for mine, theirs in names.items()})
    _same(module, peer)


def test_gpt_neox_is_gelu_with_offsets(build: Build) -> None:
    peer = _peer(
        "gpt_neox", "GPTNeoXMLP", "GPTNeoXConfig", intermediate_size=HIDDEN, num_attention_heads=4
    )
    module = build("mlp", width=WIDTH, ratio=2.0)
    names = {"project_in": "dense_h_to_4h", "project_out": "dense_4h_to_h"}
    _put(
        module,
        {
            f"{mine}.{part}": peer.get_parameter(f"{theirs}.{part}")
            for mine, theirs in names.items()
            for part in ("weight", "bias")
        },
    )
    _same(module, peer)


@pytest.mark.parametrize(("theirs", "gate"), [("gelu_pytorch_tanh", "gelu_tanh"), ("silu", "silu")])
def test_gated_layers_are_gemma_and_llama(theirs: str, gate: str, build: Build) -> None:
    peer = _peer("gemma", "GemmaMLP", "GemmaConfig", intermediate_size=HIDDEN, hidden_act=theirs)
    module = build("swiglu", width=WIDTH, ratio=2.0, gate=gate)
    halves = [peer.get_parameter(f"{name}_proj.weight") for name in ("gate", "up")]
    down = peer.get_parameter("down_proj.weight")
    _put(module, {"project_in.weight": torch.cat(halves), "project_out.weight": down})
    _same(module, peer)


def test_curves_without_splines_are_a_silu_network(build: Build) -> None:
    module = build("kan", width=WIDTH)
    for name in ("layer_in", "layer_out"):
        nn.init.zeros_(module.get_parameter(f"{name}.splines.weight"))
    first, second = (
        module.get_parameter(f"{name}.silu.weight") for name in ("layer_in", "layer_out")
    )
    x = torch.randn(2, 5, WIDTH)
    silu = nn.functional.silu
    torch.testing.assert_close(module(x), silu(silu(x) @ first.T) @ second.T)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_splines_are_shares_inside_the_grid_and_fade_outside(order: int) -> None:
    x = torch.linspace(-2, 2, 401)
    values = uniform_splines(x, 7, order, 2.0)
    assert values.shape == (401, 7 + order) and float(values.min()) >= -1e-6
    torch.testing.assert_close(values.sum(-1), torch.ones(401), rtol=0, atol=1e-5)
    far = torch.tensor([-1e30, -2 - order * 4 / 7, 2 + order * 4 / 7 + 0.01, 1e30])
    assert float(uniform_splines(far, 7, order, 2.0).abs().max()) < 1e-5


def test_splines_draw_any_cubic(build: Build) -> None:
    """On its grid, a spline of order three can be every polynomial of that degree."""
    x = torch.linspace(-2, 2, 200, dtype=torch.float64)
    wanted = 0.3 * x**3 - x**2 + 0.5
    basis = uniform_splines(x, 5, 3, 2.0)
    found = torch.linalg.lstsq(basis, wanted.unsqueeze(-1)).solution
    torch.testing.assert_close((basis @ found).squeeze(-1), wanted)


def test_gradients_of_curves_are_finite_anywhere(build: Build) -> None:
    module = build("kan", width=WIDTH)
    x = torch.tensor([0.0, 2.0, -2.0, 1e4, -1e4, 0.4]).view(1, 6, 1).expand(1, 6, WIDTH)
    x = x.clone().requires_grad_()
    module(x).sum().backward()
    leaves: Iterable[Tensor] = [x, *module.parameters()]
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_depths_give_nothing_to_positions_not_chosen(build: Build) -> None:
    module = build("mixture_of_depths", width=WIDTH, choice="top_k", capacity=0.25)
    x = torch.randn(3, 20, WIDTH)
    r = (x @ module.get_parameter("router.weight").T).squeeze(-1).detach()
    worked_on = module(x).abs().sum(-1) > 0
    assert worked_on.sum(1).tolist() == [5, 5, 5]
    assert float(r[worked_on].min()) > float(r[~worked_on].min())
    assert module.report() == {"share_used": 0.25}


def test_depths_of_all_positions_are_a_weighted_layer(build: Build) -> None:
    module = build("mixture_of_depths", width=WIDTH, choice="top_k", capacity=1.0)
    layer = build("swiglu", width=WIDTH)
    layer.load_state_dict({k: v for k, v in module.state_dict().items() if "router" not in k})
    x = torch.randn(2, 7, WIDTH)
    torch.testing.assert_close(module(x), x @ module.get_parameter("router.weight").T * layer(x))


def test_the_best_of_a_sequence_look_ahead_and_a_threshold_does_not(build: Build) -> None:
    for choice, sees in (("top_k", True), ("threshold", False)):
        module = build("mixture_of_depths", width=WIDTH, choice=choice, capacity=0.5)
        x = torch.randn(1, 12, WIDTH)
        later = x.clone()
        later[:, 6:] = 30 * module.get_parameter("router.weight").sign()
        changed = (module(x)[:, :6] - module(later)[:, :6]).abs().max()
        assert bool(changed > 1e-3) is sees
        assert (module.causal(module.params) is False) is sees


def test_the_threshold_learns_the_share(build: Build) -> None:
    module = build("mixture_of_depths", width=WIDTH, capacity=0.25, router_weight=1.0)
    optimiser = torch.optim.Adam([module.get_parameter("router.weight")], lr=0.03)
    x = torch.randn(4, 200, WIDTH)
    x[..., 0] = 1.0  # what a threshold can hold on to
    used = []
    for _ in range(150):
        module(x)
        used.append(module.report()["share_used"])
        loss = module.aux_loss()
        assert loss is not None
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert isinstance(used[-1], float) and abs(used[-1] - 0.25) < 0.05, (used[0], used[-1])


def test_no_position_above_the_threshold(build: Build) -> None:
    module = build("mixture_of_depths", width=WIDTH)
    nn.init.zeros_(module.get_parameter("router.weight"))
    output = module(torch.randn(2, 5, WIDTH))
    output.sum().backward()
    assert not output.any() and module.report() == {"share_used": 0.0}
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
