"""Mixtures of experts of published models are special cases: outputs equal with copied weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridlab.components.base import Component

Build = Callable[..., Component]

EXPERTS, HIDDEN = 8, 24
_SIGMOID = {
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "moe_intermediate_size": HIDDEN,
    "routed_scaling_factor": 2.5,
}
_MINE: dict[str, Any] = {
    "routing": "sigmoid",
    "top_k": 3,
    "groups": 4,
    "top_groups": 2,
    "routed_scale": 2.5,
    "weights": "normalised",
}

PEERS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # family, block, the configuration's settings, the component's parameters
    ("mixtral", "SparseMoeBlock", {"num_local_experts": EXPERTS, "intermediate_size": HIDDEN}, {}),
    (
        "mixtral",
        "SparseMoeBlock",
        {"num_local_experts": EXPERTS, "intermediate_size": HIDDEN, "num_experts_per_tok": 1},
        {"top_k": 1, "weights": "normalised"},
    ),
    (
        "jamba",
        "SparseMoeBlock",
        {"num_experts": EXPERTS, "intermediate_size": HIDDEN},
        {"weights": "raw"},
    ),
    (
        "granitemoe",
        "MoE",
        {"num_local_experts": EXPERTS, "intermediate_size": HIDDEN, "num_experts_per_tok": 3},
        {"top_k": 3},
    ),
    (
        "qwen3_next",
        "SparseMoeBlock",
        {
            "num_experts": EXPERTS,
            "moe_intermediate_size": HIDDEN,
            "shared_expert_intermediate_size": 40,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
        },
        {"shared_ratio": 2.5, "shared_gate": True},
    ),
    (
        "nemotron_h",
        "MoE",
        _SIGMOID | {"n_routed_experts": EXPERTS, "moe_shared_expert_intermediate_size": 40},
        _MINE | {"activation": "relu_squared", "shared_ratio": 2.5},
    ),
    (
        "nemotron_h",
        "MoE",
        _SIGMOID
        | {
            "n_routed_experts": EXPERTS,
            "moe_shared_expert_intermediate_size": 40,
            "moe_latent_size": 8,
            "norm_topk_prob": False,
        },
        _MINE | {"activation": "relu_squared", "shared_ratio": 2.5, "latent": 8, "weights": "raw"},
    ),
    (
        "deepseek_v2",
        "Moe",
        {
            "n_routed_experts": EXPERTS,
            "moe_intermediate_size": HIDDEN,
            "num_experts_per_tok": 3,
            "n_group": 4,
            "topk_group": 2,
            "topk_method": "group_limited_greedy",
            "n_shared_experts": 2,
            "routed_scaling_factor": 1.5,
            "num_attention_heads": 4,
        },
        {
            "top_k": 3,
            "groups": 4,
            "top_groups": 2,
            "routed_scale": 1.5,
            "weights": "raw",
            "shared_ratio": 3.0,
        },
    ),
    (
        "deepseek_v3",
        "MoE",
        _SIGMOID | {"n_routed_experts": EXPERTS, "n_shared_experts": 2},
        _MINE | {"shared_ratio": 3.0},
    ),
    (
        "kimi_linear",
        "MoE",
        _SIGMOID | {"num_experts": EXPERTS, "n_shared_experts": 1},
        _MINE | {"shared_ratio": 1.5},
    ),
]
NAMES = {"qwen3_next": "Qwen3Next", "nemotron_h": "NemotronH", "kimi_linear": "KimiLinear"}
NAMES |= {"deepseek_v2": "DeepseekV2", "deepseek_v3": "DeepseekV3", "granitemoe": "GraniteMoe"}


def _weights_of(peer: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a block of transformers under the component's names."""
    theirs = dict(peer.named_parameters()) | dict(peer.named_buffers())
    found = {}
    for name, value in theirs.items():
        module, _, last = name.rpartition(".")
        if last in ("gate_up_proj", "up_proj", "down_proj"):
            found["experts_out" if last == "down_proj" else "experts_in"] = value.mT
        elif last == "e_score_correction_bias":
            found["selection_bias"] = value
        elif module in ("gate", "router"):
            found["router.weight"] = value
        elif module == "shared_expert_gate":
            found["shared_gate.weight"] = value
        elif "latent" in module:
            found[f"latent_{'in' if 'fc1' in module else 'out'}.weight"] = value
        else:
            _, part = module.split(".")
            found[f"shared_{part}"] = value
    if "shared_down_proj" in found:
        found["shared_out.weight"] = found.pop("shared_down_proj")
        halves = [found.pop(n) for n in ("shared_gate_proj", "shared_up_proj") if n in found]
        found["shared_in.weight"] = torch.cat(halves)
    return found


@pytest.mark.parametrize(("family", "block", "theirs", "mine"), PEERS)
def test_blocks_of_transformers_are_special_cases(
    family: str, block: str, theirs: dict[str, Any], mine: dict[str, Any], build: Build
) -> None:
    transformers = importlib.import_module("transformers")
    name = NAMES.get(family, family.capitalize())
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config = getattr(transformers, f"{name}Config")(hidden_size=16, **theirs)
    config._experts_implementation = "eager"
    peer = getattr(module, name + block)(config).eval()
    for weight in peer.parameters():
        nn.init.normal_(weight, std=0.3)
    for buffer in peer.buffers():
        nn.init.normal_(buffer, std=0.2)
    moe = build("moe", width=16, experts=EXPERTS, ratio=HIDDEN / 16, **mine).eval()
    moe.load_state_dict({key: value.detach() for key, value in _weights_of(peer).items()})
    x = torch.randn(3, 21, 16)
    result = peer(x)
    torch.testing.assert_close(moe(x), result, rtol=1e-4, atol=1e-5)
