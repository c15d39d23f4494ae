"""Layers that others have published, to be run beside ours: the table of peers, and how each is built and called.

``transformers`` runs its plain PyTorch path here, with its own default chunk sizes; ``mambapy`` its parallel scan.
Settings give them the sizes of our defaults, so that both have the same weights up to a bias.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from mixer_timing import Form
from torch import Tensor, nn

from hybridlab.components.channel_mixers.hidden_size import hidden_size

HEADS = 4
"""Heads of a default mixer."""
Call = Callable[..., Tensor]


def whole(layer: Any) -> Call:
    """Call a layer that gives its output alone."""
    return lambda x: layer(x)


def first(layer: Any) -> Call:
    """Call a layer that gives its output and more."""
    return lambda x: layer(x)[0]


def lightning(layer: Any) -> Call:
    """Call a layer that asks for positions and a mask that it does not need."""
    return lambda x: layer(x, None, None)[0]


def griffin(layer: Any) -> Call:
    """Call RecurrentGemma's block, which would go on from the state that the last call has left."""

    def call(x: Tensor) -> Tensor:
        layer.rg_lru.recurrent_states = None
        places = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        return layer(x, places, None, use_cache=False)[0]

    return call


def picture(layer: Any) -> Call:
    """Call a layer that takes pictures (B, D, rows, columns), squares here; it adds its input."""

    def call(x: Tensor) -> Tensor:
        image = x.unflatten(1, (math.isqrt(x.shape[1]), -1)).permute(0, 3, 1, 2)
        return layer(image).permute(0, 2, 3, 1).flatten(1, 2)

    return call


def turned(layer: Any) -> Call:
    """Call attention with rotary positions; without a mask it takes SDPA's causal path."""
    window = getattr(layer.config, "sliding_window", None)
    modeling = importlib.import_module(type(layer).__module__)
    rotary = getattr(modeling, type(layer).__name__.replace("Attention", "RotaryEmbedding"))

    @functools.cache
    def given(length: int, device: torch.device) -> dict[str, Any]:
        places = torch.arange(length, device=device)
        turns = rotary(layer.config).to(device)(torch.empty(0, device=device), places[None])
        distance = places[:, None] - places
        mask = ((distance >= 0) & (distance < window))[None, None] if window else None
        return {"position_embeddings": turns, "attention_mask": mask}

    return lambda x: layer(x, **given(x.shape[1], x.device))[0]


def crossed(layer: Any) -> Call:
    """Call cross-attention, which reads a second sequence."""
    return lambda x, other: layer(x, cross_attention_states=other)[0]


@dataclass(frozen=True)
class Published:
    """A layer of ``transformers``: where it is, its settings beside the width, and how it is called."""

    family: str
    config: str
    layer: str
    settings: Callable[[int], dict[str, Any]] = lambda width: {}
    call: Callable[[Any], Call] = whole
    arguments: dict[str, Any] = field(default_factory=lambda: {"layer_idx": 0})
    loops: bool = False


def _attention(width: int) -> dict[str, Any]:
    return {"num_attention_heads": HEADS, "num_key_value_heads": HEADS}


def _delta(width: int) -> dict[str, Any]:
    heads = {"linear_num_key_heads": HEADS, "linear_num_value_heads": HEADS}
    sizes = {"linear_key_head_dim": width // HEADS, "linear_value_head_dim": width // HEADS}
    return {**heads, **sizes, **_attention(width)}


def _latent(width: int) -> dict[str, Any]:
    sizes = {"qk_nope_head_dim": width // HEADS, "v_head_dim": width // HEADS}
    ranks = {"kv_lora_rank": 32, "q_lora_rank": None, "qk_rope_head_dim": 8}
    return {**sizes, **ranks, **_attention(width)}


def _mamba2(state: int) -> Callable[[int], dict[str, Any]]:
    return lambda width: {
        "num_heads": HEADS,
        "head_dim": 2 * width // HEADS,
        "state_size": state,
        "n_groups": 1,
    }


def _experts(width: int) -> dict[str, Any]:
    hidden = hidden_size(8 / 3, width)
    return {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": hidden}


TRANSFORMERS: dict[str, Published] = {
    "attention": Published("llama", "LlamaConfig", "LlamaAttention", _attention, turned),
    "attention, window 128": Published(
        "mistral",
        "MistralConfig",
        "MistralAttention",
        lambda width: {**_attention(width), "sliding_window": 128},
        turned,
    ),
    "cross_attention, normed": Published(
        "mllama", "MllamaTextConfig", "MllamaTextCrossAttention", _attention, crossed
    ),
    "differential_attention": Published(
        "diffllama", "DiffLlamaConfig", "DiffLlamaAttention", _attention, turned
    ),
    "latent_attention": Published(
        "deepseek_v3", "DeepseekV3Config", "DeepseekV3Attention", _latent, turned
    ),
    "gated_delta_net": Published("qwen3_next", "Qwen3NextConfig", "Qwen3NextGatedDeltaNet", _delta),
    "kimi_delta_attention": Published(
        "kimi_linear",
        "KimiLinearConfig",
        "KimiLinearDeltaAttention",
        lambda width: {"linear_num_heads": HEADS, "linear_head_dim": width // HEADS},
    ),
    "lightning_attention": Published(
        "minimax",
        "MiniMaxConfig",
        "MiniMaxLightningAttention",
        lambda width: {**_attention(width), "head_dim": width // HEADS, "num_hidden_layers": 4},
        lightning,
    ),
    "mamba": Published("mamba", "MambaConfig", "MambaMixer", loops=True),
    "mamba2": Published("mamba2", "Mamba2Config", "Mamba2Mixer", _mamba2(16)),
    "mamba2, state 64": Published("mamba2", "Mamba2Config", "Mamba2Mixer", _mamba2(64)),
    "mlstm": Published(
        "xlstm",
        "xLSTMConfig",
        "xLSTMLayer",
        lambda width: {
            "num_heads": HEADS,
            "mode": "train",
            "return_last_states": True,
            "autocast_kernel_dtype": "float32",
        },
        first,
        {},
    ),
    "rg_lru": Published(
        "recurrent_gemma",
        "RecurrentGemmaConfig",
        "RecurrentGemmaRecurrentBlock",
        lambda width: {"lru_width": width, "num_attention_heads": HEADS},
        griffin,
        loops=True,
    ),
    "rwkv4": Published(
        "rwkv", "RwkvConfig", "RwkvSelfAttention", call=first, arguments={}, loops=True
    ),
    "short_conv": Published(
        "lfm2", "Lfm2Config", "Lfm2ShortConv", lambda width: {"conv_L_cache": 4}
    ),
    "fourier_mixing": Published(
        "fnet", "FNetConfig", "FNetBasicFourierTransform", call=first, arguments={}
    ),
    "convnext": Published("convnext", "ConvNextConfig", "ConvNextLayer", call=picture),
    "mlp": Published(
        "gpt_neox",
        "GPTNeoXConfig",
        "GPTNeoXMLP",
        lambda width: {"intermediate_size": 4 * width},
        arguments={},
    ),
    "swiglu": Published(
        "llama",
        "LlamaConfig",
        "LlamaMLP",
        lambda width: {"intermediate_size": hidden_size(8 / 3, width)},
        arguments={},
    ),
    "moe": Published("mixtral", "MixtralConfig", "MixtralSparseMoeBlock", _experts, arguments={}),
    "rwkv_channel_mix": Published(
        "rwkv", "RwkvConfig", "RwkvFeedForward", call=first, arguments={}
    ),
}
MAMBAPY = ("mamba",)


def peers_of(label: str, width: int, device: torch.device) -> tuple[list[Form], dict[str, str]]:
    """Return the published layers beside a mixer, and those that could not be had with the reason."""
    forms, absent = [], {}
    builds: list[tuple[str, Callable[[], Form]]] = []
    if label in TRANSFORMERS:
        published = TRANSFORMERS[label]
        builds.append((published.layer, lambda: _of_transformers(published, width, device)))
    if label in MAMBAPY:
        builds.append(("MambaBlock", lambda: _of_mambapy(width, device)))
    for name, build in builds:
        try:
            forms.append(build())
        except ModuleNotFoundError as error:
            absent[name] = f"{error.name} is not installed"
    return forms, absent


def _of_transformers(published: Published, width: int, device: torch.device) -> Form:
    package = f"transformers.models.{published.family}"
    importlib.import_module(
        "transformers"
    ).logging.set_verbosity_error()  # it says that no kernel is there
    configuration = importlib.import_module(f"{package}.configuration_{published.family}")
    modeling = importlib.import_module(f"{package}.modeling_{published.family}")
    settings = published.settings(width)
    config = getattr(configuration, published.config)(hidden_size=width, **settings)
    config._attn_implementation = "sdpa"
    arguments = dict(published.arguments)
    if published.family == "convnext":
        arguments = {"dim": width}
    layer = getattr(modeling, published.layer)(config, **arguments).to(device)
    _draw_weights(layer)
    return Form(
        published.layer, "transformers", published.call(layer), layer, loops=published.loops
    )


def _of_mambapy(width: int, device: torch.device) -> Form:
    mamba = importlib.import_module("mambapy.mamba")
    layer = mamba.MambaBlock(mamba.MambaConfig(d_model=width, n_layers=1)).to(device)
    return Form("MambaBlock", "mambapy", whole(layer), layer)


@torch.no_grad()
def _draw_weights(layer: nn.Module) -> None:
    """Give every weight a size at which the layer works as in a model; some layers leave theirs empty."""
    for name, weight in layer.named_parameters():
        if "A_log" in name or "dt_bias" in name:
            weight.uniform_(-2, 2)
        elif "norm" in name:
            weight.fill_(1)
        elif weight.dim() > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.uniform_(0, 0.5)
