"""What most families share: embedding, attention, feed-forward layers, experts, Mamba-2, and the head, with weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.importers.draft import Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.weights import Take, built, first_of, joined, take
from hybridlab.components.channel_mixers.hidden_size import hidden_size

GATES = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Published names of a gated layer's bend, and ours."""
ACTIVATIONS = {**GATES, "relu2": "relu_squared"}
"""The same for a plain layer."""


def norm_weights(name: str, *, bias: bool = False, prefix: str = "norm.") -> dict[str, Take]:
    """Return a norm's weights: ``name.weight`` as its scale, and ``name.bias`` where it has one."""
    weights = {f"{prefix}scale": take(f"{name}.weight")}
    return weights | ({f"{prefix}bias": take(f"{name}.bias")} if bias else {})


def embedding(config: Fields, table: str, *, tied: bool = False, scale: float = 1.0) -> Part:
    """Return the token embedding; a tied table starts as small as the family's."""
    params: dict[str, Any] = {"vocab": config.whole("vocab_size")}
    if scale != 1:
        params["scale"] = scale
    if tied:
        params["std"] = config.number("initializer_range", least=1e-6)
    return Part("token_embedding", params, {"body.table.weight": take(table)}, id="tokens")


def final(
    config: Fields,
    norm: str,
    norm_name: str,
    eps: float,
    heads: tuple[str, ...] = ("lm_head",),
    *,
    tied: bool = False,
    scale: float = 1.0,
    soft_cap: float | None = None,
    bias: bool = False,
) -> list[Part]:
    """Return the final norm, of a kind and eps of its own, and the head, which files may name in several ways."""
    params: dict[str, Any] = {"vocab": config.whole("vocab_size"), "norm": False}
    if tied:
        params["tied"] = True
    if scale != 1:
        params["scale"] = scale
    if soft_cap is not None:
        params["soft_cap"] = soft_cap
    names = [] if tied else ["weight"]
    if bias:
        params["bias"] = True
        names.append("bias")
    weights = {
        f"body.unembedding.{name}": first_of(*(take(f"{head}.{name}") for head in heads))
        for name in names
    }
    scales = norm_weights(norm_name, bias=norm == "layer_norm", prefix="body.")
    return [Part(norm, {"eps": eps}, scales, id="final_norm"), Part("lm_head", params, weights)]


def tied(config: Fields) -> bool:
    """Read whether the head shares the embedding's table."""
    return config.flag("tie_word_embeddings")


def attention(
    config: Fields,
    at: str,
    norm: dict[str, Take],
    *,
    positions: dict[str, Any],
    bias: bool = False,
    out_bias: bool | None = None,
    window: int | None = None,
    score_scale: float | None = None,
    out_scale: float = 1.0,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
) -> Part:
    """Return softmax attention whose queries, keys and values are apart in the file; ``at`` ends in a dot.

    A factor on the scores of its own, in place of 1 / sqrt(head size), is folded into the queries.
    """
    heads = config.whole("num_attention_heads")
    params: dict[str, Any] = {"heads": heads}
    kv_heads = config.maybe_whole("num_key_value_heads")
    if kv_heads not in (None, heads):
        params["kv_heads"] = kv_heads
    size = config.maybe_whole("head_dim")
    if size is not None and size * heads != config.whole("hidden_size"):
        params["head_dim"] = size
    if window is not None:
        params["window"] = window
    params |= positions
    query, key, value, out = names
    head_dim = size or config.whole("hidden_size") // heads
    stretch = 1.0 if score_scale is None else score_scale * math.sqrt(head_dim)
    if math.isclose(stretch, 1, rel_tol=1e-12):
        stretch = 1.0
    rows = [head_dim * count for count in (heads, kv_heads or heads, kv_heads or heads)]

    def apart(whole: Tensor) -> list[Tensor]:
        queries, *others = torch.split(whole, rows)
        return [queries / stretch, *others]

    def inwards(what: str) -> Take:
        names = [f"{at}{name}.{what}" for name in (query, key, value)]
        return built(names, lambda qkv: torch.cat((qkv[0] * stretch, *qkv[1:])), apart)

    weights = norm | {
        "body.project_in.weight": inwards("weight"),
        "body.project_out.weight": take(f"{at}{out}.weight").scaled(out_scale),
    }
    if bias:
        params["bias"] = True
        weights["body.project_in.bias"] = inwards("bias")
    if bias if out_bias is None else out_bias:
        params["out_bias"] = True
        weights["body.project_out.bias"] = take(f"{at}{out}.bias").scaled(out_scale)
    return Part("attention", params, weights)


def ratio(config: Fields, hidden: int, name: str) -> float:
    """Return a hidden size as a multiple of the width; sizes that no multiple of 8 reaches are refused."""
    width = config.whole("hidden_size")
    if hidden_size(hidden / width, width) != hidden:
        config.refuse(name, "hidden features come in multiples of 8", "a multiple of 8")
    return hidden / width


def swiglu(
    config: Fields,
    at: str,
    norm: dict[str, Take],
    *,
    field: str = "intermediate_size",
    bias: bool = False,
    out_scale: float = 1.0,
    fused: str | None = None,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> Part:
    """Return the gated feed-forward layer; ``fused`` names the map that is gate and value in one."""
    params: dict[str, Any] = {"ratio": ratio(config, config.whole(field), field)}
    bend = config.choice("hidden_act", GATES)
    if bend != "silu":
        params["gate"] = bend
    gate, up, down = names
    inwards = (
        take(f"{at}{fused}.weight") if fused else joined(f"{at}{gate}.weight", f"{at}{up}.weight")
    )
    weights = norm | {
        "body.project_in.weight": inwards,
        "body.project_out.weight": take(f"{at}{down}.weight").scaled(out_scale),
    }
    if bias:
        params["bias"] = True
        weights["body.project_in.bias"] = joined(f"{at}{gate}.bias", f"{at}{up}.bias")
        weights["body.project_out.bias"] = take(f"{at}{down}.bias").scaled(out_scale)
    return Part("swiglu", params, weights)


def experts(
    config: Fields,
    norm: dict[str, Take],
    *,
    count: int,
    top_k: int,
    router: tuple[str, ...],
    at: tuple[str, ...],
    fused: tuple[str, ...] = ("gate_up_proj",),
    fused_out: tuple[str, ...] = ("down_proj",),
    names: tuple[str, str, str] = ("w1", "w3", "w2"),
    balance: float = 0.0,
    out_scale: float = 1.0,
    normalised: bool = True,
) -> Part:
    """Return SwiGLU experts whose chosen weights sum to one, or are the router's as they stand.

    ``router`` and ``at`` name the router's map and the place of the experts, newest spelling first; the experts are two
    tensors there (``fused`` and ``fused_out``), or numbered ones with a gate, a value and an output map.
    """
    params: dict[str, Any] = {
        "experts": count,
        "top_k": top_k,
        "ratio": ratio(config, config.whole("intermediate_size"), "intermediate_size"),
        "balance_weight": balance,
    }
    if normalised != (top_k > 1):  # what "auto" does
        params["weights"] = "normalised" if normalised else "raw"
    gate, up, down = names

    def inwards(place: str) -> Take:
        each = [f"{place}{e}.{part}.weight" for e in range(count) for part in (gate, up)]
        whole = (take(f"{place}{name}").then(_turned, _turned) for name in fused)
        return first_of(*whole, built(each, _stacked_pairs, _pairs))

    def outwards(place: str) -> Take:
        each = [f"{place}{e}.{down}.weight" for e in range(count)]
        whole = (take(f"{place}{name}") for name in fused_out)
        return first_of(*whole, built(each, torch.stack, list)).then(_turned, _turned)

    weights = norm | {
        "body.router.weight": first_of(*(take(name) for name in router)),
        "body.experts_in": first_of(*(inwards(place) for place in at)),
        "body.experts_out": first_of(*(outwards(place) for place in at)).scaled(out_scale),
    }
    return Part("moe", params, weights)


def mamba(
    config: Fields,
    at: str,
    norm: dict[str, Take],
    *,
    state: int,
    expand: int,
    conv: int,
    rank: str,
    bias: bool,
    conv_bias: bool,
) -> Part:
    """Return a Mamba block without norms inside; ``at`` ends in a dot, ``rank`` names the field of the step's rank."""
    params: dict[str, Any] = {"state": state, "expand": expand, "conv": conv}
    if config.raw(rank) != "auto":
        params["step_rank"] = config.whole(rank)
    weights = norm | {
        "body.project_in.weight": take(f"{at}in_proj.weight"),
        "body.conv.taps": take(f"{at}conv1d.weight").then(flat_taps, deep_taps),
        "body.select.weight": take(f"{at}x_proj.weight"),
        "body.project_step.weight": take(f"{at}dt_proj.weight"),
        "body.project_step.bias": take(f"{at}dt_proj.bias"),
        "body.log_rate": take(f"{at}A_log"),
        "body.skip": take(f"{at}D"),
        "body.project_out.weight": take(f"{at}out_proj.weight"),
    }
    if conv_bias:
        weights["body.conv.bias"] = take(f"{at}conv1d.bias")
    else:
        params["conv_bias"] = False
    if bias:
        params["bias"] = True
        weights["body.project_in.bias"] = take(f"{at}in_proj.bias")
        weights["body.project_out.bias"] = take(f"{at}out_proj.bias")
    return Part("mamba", params, weights)


def mamba2(
    config: Fields,
    at: str,
    norm: dict[str, Take],
    *,
    heads: int,
    head_dim: int,
    state: int,
    groups: int,
    expand: int,
    conv: int,
    chunk: int,
    eps: float,
    bias: bool,
    conv_bias: bool,
    out_scale: float = 1.0,
    gate_norm: str = "after_gate",
    steps: dict[str, float] | None = None,
) -> Part:
    """Return a Mamba-2 block; ``at`` ends in a dot; ``steps`` are bounds in place of ``time_step_limit``."""
    params: dict[str, Any] = {"state": state, "heads": heads, "expand": expand}
    if heads * head_dim != expand * config.whole("hidden_size"):
        params["head_dim"] = head_dim
    params |= {"groups": groups, "conv": conv, "chunk": min(chunk, 1024)}
    if gate_norm != "after_gate":
        params["norm"] = gate_norm
    if groups > 1 and gate_norm != "none":
        params["norm_groups"] = groups
    params |= _step_limits(config) if steps is None else steps
    if gate_norm != "none" and eps != 1e-5:
        params["eps"] = eps
    weights = norm | {
        "body.project_in.weight": take(f"{at}in_proj.weight"),
        "body.conv.taps": take(f"{at}conv1d.weight").then(flat_taps, deep_taps),
        "body.step_bias": take(f"{at}dt_bias"),
        "body.log_rate": take(f"{at}A_log"),
        "body.skip": take(f"{at}D"),
        "body.project_out.weight": take(f"{at}out_proj.weight").scaled(out_scale),
    }
    if gate_norm != "none":
        weights["body.norm.scale"] = take(f"{at}norm.weight")
    if conv_bias:
        weights["body.conv.bias"] = take(f"{at}conv1d.bias")
    else:
        params["conv_bias"] = False
    if bias:
        params["bias"] = True
        weights["body.project_in.bias"] = take(f"{at}in_proj.bias")
        weights["body.project_out.bias"] = take(f"{at}out_proj.bias").scaled(out_scale)
    return Part("mamba2", params, weights)


def mamba2_of(
    config: Fields, at: str, norm: dict[str, Take], *, eps: float, out_scale: float = 1.0
) -> Part:
    """Return a Mamba-2 block whose sizes are the fields ``mamba_…``, as the hybrids name them."""
    heads, expand = config.whole("mamba_n_heads"), config.whole("mamba_expand")
    size = expand * config.whole("hidden_size") // heads
    if config.raw("mamba_d_head") not in ("auto", None):
        size = config.whole("mamba_d_head")
    return mamba2(
        config,
        at,
        norm,
        heads=heads,
        head_dim=size,
        state=config.whole("mamba_d_state"),
        groups=config.whole("mamba_n_groups"),
        expand=expand,
        conv=config.whole("mamba_d_conv"),
        chunk=config.whole("mamba_chunk_size", least=2),
        eps=eps,
        bias=config.flag("mamba_proj_bias"),
        conv_bias=config.flag("mamba_conv_bias"),
        out_scale=out_scale,
    )


def _step_limits(config: Fields) -> dict[str, float]:
    """Read the bounds that steps are kept within; 0 to infinity is none."""
    limits = [
        math.inf if limit == {"__float__": "Infinity"} else limit
        for limit in config.listed("time_step_limit")
    ]
    if not limits:
        return {}
    if len(limits) != 2 or not all(isinstance(limit, (int, float)) for limit in limits):
        config.refuse("time_step_limit", "has the wrong value", "two numbers, or Infinity")
        return {}
    low, high = limits
    found = {"step_min": float(low)} if low > 0 else {}
    return found | ({"step_max": float(high)} if high < math.inf else {})


def _turned(weights: Tensor) -> Tensor:
    """Return maps (E, out, in) as (E, in, out)."""
    return weights.transpose(-1, -2)


def flat_taps(taps: Tensor) -> Tensor:
    """Return a depthwise convolution's taps (C, 1, k) as (C, k)."""
    return taps.squeeze(1)


def deep_taps(taps: Tensor) -> Tensor:
    """Return taps (C, k) as PyTorch's convolutions have them, (C, 1, k)."""
    return taps.unsqueeze(1)


def _pairs(stacked: Tensor) -> list[Tensor]:
    """Return (E, in, 2 x out) as gate and value maps (out, in) of one expert after the other."""
    return [part for expert in stacked for part in expert.T.chunk(2)]


def _stacked_pairs(weights: list[Tensor]) -> Tensor:
    """Return gate and value maps (out, in) of one expert after the other as (E, in, 2 x out)."""
    pairs = zip(weights[::2], weights[1::2], strict=True)
    return torch.stack([torch.cat(pair).T for pair in pairs])
