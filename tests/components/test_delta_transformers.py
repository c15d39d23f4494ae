"""Mixers with a matrix memory beside transformers' layers on the same weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridlab.components.base import Component

Build = Callable[..., Component]


def _layer(path: str, name: str, config: dict[str, Any], **arguments: Any) -> nn.Module:
    """Build a layer of transformers with random weights and decays of every size."""
    family = path.split(".")[-1]
    title = "".join(part.capitalize() for part in family.split("_")).replace("Minimax", "MiniMax")
    configuration = importlib.import_module(f"{path}.configuration_{family}")
    made = getattr(configuration, f"{title}Config")(**config)
    layer = getattr(importlib.import_module(f"{path}.modeling_{family}"), name)(made, **arguments)
    with torch.no_grad():
        for key, weight in layer.named_parameters():
            if "A_log" in key or "dt_bias" in key:
                weight.uniform_(-2, 2)
            elif "norm" in key:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(std=weight[0].numel() ** -0.5)
    return layer


def _load(module: Component, weights: dict[str, Tensor]) -> None:
    module.load_state_dict({key: weight.detach().clone() for key, weight in weights.items()})


def _compare(module: Component, layer: Callable[[Tensor], Tensor]) -> None:
    """Outputs and input gradients agree, and the step form follows the same numbers."""
    x = torch.randn(2, 70, 32, requires_grad=True)
    got, want = module(x), layer(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(got)
    (got_grad,) = torch.autograd.grad(got, x, direction)
    (want_grad,) = torch.autograd.grad(want, x, direction)
    torch.testing.assert_close(got_grad, want_grad, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        state = module.start(2)
        for t in range(70):
            row, state = module.step(state, x[:, t])
            torch.testing.assert_close(row, want[:, t], rtol=1e-4, atol=1e-4)


MODELS = "transformers.models"
GATED = {
    "hidden_size": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SAME = {"heads": 4, "key_heads": 2, "key_dim": 8, "value_dim": 12, "conv": 4}


@pytest.mark.filterwarnings("ignore")
def test_gated_delta_net_is_that_of_qwen3_next(build: Build) -> None:
    layer = _layer(f"{MODELS}.qwen3_next", "Qwen3NextGatedDeltaNet", GATED, layer_idx=0)
    module = build("gated_delta_net", width=32, **SAME, eps=layer.layer_norm_epsilon)
    grouped = layer.in_proj_qkvz.weight.view(2, -1, 32).split([8, 8, 24, 24], 1)
    beta_step = layer.in_proj_ba.weight.view(2, -1, 32).split([2, 2], 1)
    rows = [part.reshape(-1, 32) for part in (*grouped, *beta_step)]
    _load(
        module,
        {
            "project_in.weight": torch.cat(rows),
            "conv.taps": layer.conv1d.weight.squeeze(1),
            "step_bias": layer.dt_bias,
            "log_rate": layer.A_log,
            "norm.scale": layer.norm.weight,
            "project_out.weight": layer.out_proj.weight,
        },
    )
    _compare(module, layer)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("negative", [False, True])
def test_gated_delta_net_is_that_of_olmo_hybrid(negative: bool, build: Build) -> None:
    config = GATED | {"linear_allow_neg_eigval": negative}
    layer = _layer(f"{MODELS}.olmo_hybrid", "OlmoHybridGatedDeltaNet", config, layer_idx=0)
    module = build("gated_delta_net", width=32, **SAME, eps=1e-5, negative=negative)
    maps = (layer.q_proj, layer.k_proj, layer.v_proj, layer.g_proj, layer.b_proj, layer.a_proj)
    _load(
        module,
        {
            "project_in.weight": torch.cat([part.weight for part in maps]),
            "conv.taps": layer.conv1d.weight.squeeze(1),
            "step_bias": layer.dt_bias,
            "log_rate": layer.A_log,
            "norm.scale": layer.o_norm.weight,
            "project_out.weight": layer.o_proj.weight,
        },
    )
    _compare(module, layer)


@pytest.mark.filterwarnings("ignore")
def test_kimi_delta_attention_is_that_of_kimi_linear(build: Build) -> None:
    config = {
        "hidden_size": 32,
        "linear_num_heads": 4,
        "linear_head_dim": 8,
        "linear_conv_kernel_dim": 4,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    layer = _layer(f"{MODELS}.kimi_linear", "KimiLinearDeltaAttention", config, layer_idx=0)
    module = build(
        "kimi_delta_attention", width=32, heads=4, key_dim=8, eps=layer.layer_norm_epsilon
    )
    forget = layer.forget_gate
    maps = (layer.q_proj, layer.k_proj, layer.v_proj, layer.b_proj, forget.f_a_proj, layer.g_a_proj)
    _load(
        module,
        {
            "project_in.weight": torch.cat([part.weight for part in maps]),
            "conv.taps": layer.conv1d.weight.squeeze(1),
            "forget_up.weight": forget.f_b_proj.weight,
            "step_bias": forget.dt_bias,
            "log_rate": forget.A_log.flatten(),
            "gate_up.weight": layer.g_b_proj.weight,
            "norm.scale": layer.o_norm.weight,
            "project_out.weight": layer.o_proj.weight,
        },
    )
    _compare(module, layer)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("index", [0, 2])
def test_lightning_attention_is_that_of_minimax(index: int, build: Build) -> None:
    config = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "num_hidden_layers": 4,
        "block_size": 16,
    }
    layer = _layer(f"{MODELS}.minimax", "MiniMaxLightningAttention", config, layer_idx=index)
    scale = 1 - index / (4 - 1 + 1e-5) + 1e-5
    module = build("lightning_attention", width=32, heads=4, head_dim=6, scale=scale)
    by_head = layer.qkv_proj.weight.view(4, 3, 6, 32).transpose(0, 1).reshape(-1, 32)
    _load(
        module,
        {
            "project_in.weight": torch.cat((by_head, layer.output_gate.weight)),
            "norm.scale": layer.norm.weight,
            "project_out.weight": layer.out_proj.weight,
        },
    )
    _compare(module, lambda x: layer(x, None, None)[0])
