"""Nemotron-H: Mamba-2, attention, plain layers and experts, one to a residual; https://arxiv.org/abs/2504.03624."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    ACTIVATIONS,
    attention,
    embedding,
    final,
    mamba2,
    norm_weights,
    ratio,
)
from hybridlab.architecture.importers.weights import Take, Way, built, first_of, take

DEFAULTS = {
    "vocab_size": 131072,
    "hidden_size": 4096,
    "layers_block_type": None,
    "tie_word_embeddings": False,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "sliding_window": None,
    "intermediate_size": 21504,
    "mlp_hidden_act": "relu2",
    "mlp_bias": False,
    "ssm_state_size": 128,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "n_groups": 8,
    "conv_kernel": 4,
    "expand": 2,
    "time_step_min": 0.001,
    "time_step_limit": (0.0, math.inf),
    "use_conv_bias": True,
    "chunk_size": 128,
    "mamba_proj_bias": False,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "moe_intermediate_size": 7688,
    "moe_shared_expert_intermediate_size": 7688,
    "moe_latent_size": None,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 0,
    "use_bias": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "hidden_dropout": 0.0,
}
# How weights start, in which way the same is computed, and what other fields say already.
HARMLESS = {
    *("time_step_max", "time_step_floor", "rescale_prenorm_residual", "residual_in_fp32"),
    *("use_mamba_kernels", "mamba_ssm_cache_dtype", "moe_shared_expert_overlap"),
    *("mtp_layers_block_type", "mtp_hybrid_override_pattern", "num_hidden_layers"),
    *("rms_norm_eps", "norm_eps", "num_query_groups", "time_step_rank"),
}
LETTERS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
"""Layers as one letter each, in ``hybrid_override_pattern``."""
KINDS = {
    **{kind: kind for kind in LETTERS.values()},
    "mamba": "linear_attention",
    "attention": "full_attention",
}
PRESET = ["linear_attention", "moe", "full_attention", "mlp"]


@family(
    "nemotron_h", source="https://arxiv.org/abs/2504.03624", defaults=DEFAULTS, harmless=HARMLESS
)
def nemotron_h(config: Fields) -> Draft:
    """Read one of four kinds a layer, pre-norm."""
    eps = config.number("layer_norm_epsilon", least=0)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("mtp.*",))
    config.only("tie_word_embeddings", False, because="the family's head has a table of its own")
    if config.whole("num_nextn_predict_layers", least=0):
        config.notes.append("the layers that predict further tokens are left out")
    config.dropout("attention_dropout", "hidden_dropout")
    config.only("sliding_window", None)
    config.only("attention_bias", False)
    config.only("mamba_proj_bias", False)
    config.only("mamba_hidden_act", "silu", "swish")
    config.only("attention_head_dim", None, config.raw("head_dim"))
    config.passed("time_step_limit")  # steps have a lower bound alone, time_step_min
    draft.before = [_anywhere(embedding(config, "model.embeddings.weight"))]
    for layer, kind in enumerate(_kinds(config)):
        at = f"model.layers.{layer}."
        norm, place = norm_weights(f"{at}norm"), f"{at}mixer."
        if kind == "linear_attention":
            part = _mamba2(config, place, norm, eps)
        elif kind == "full_attention":
            part = attention(config, place, norm, positions={"rotary": False})
        elif kind == "moe":
            part = _experts(config, place, norm)
        else:
            part = _plain(config, place, norm)
        draft.layers.append([_anywhere(part)])
    last = final(config, "rms_norm", "model.norm_f", eps)
    draft.after = [_anywhere(part) for part in last]
    return draft


def _kinds(config: Fields) -> list[str]:
    """Return the kind of each layer, from a list or from a pattern of letters."""
    given = ("layers_block_type", "layer_types", "hybrid_override_pattern")
    name = next((one for one in given if config.given(one)), given[0])
    words = PRESET if config.raw(name) is None else config.raw(name)
    known = LETTERS if isinstance(words, str) else KINDS
    if not isinstance(words, (str, list, tuple)) or not set(map(str, words)) <= set(known):
        config.refuse(name, "does not name each layer's kind", "M, *, -, E or their names")
        words, known = PRESET, KINDS
    config.passed(*given)
    return [known[str(word)] for word in words]


def _mamba2(config: Fields, at: str, norm: dict[str, Take], eps: float) -> Part:
    least = config.number("time_step_min", least=0)
    return mamba2(
        config,
        at,
        norm,
        heads=config.whole("mamba_num_heads"),
        head_dim=config.whole("mamba_head_dim"),
        state=config.whole("ssm_state_size"),
        groups=config.whole("n_groups"),
        expand=config.whole("expand"),
        conv=config.whole("conv_kernel"),
        chunk=config.whole("chunk_size", least=2),
        eps=eps,
        bias=config.flag("use_bias"),
        conv_bias=config.flag("use_conv_bias"),
        steps={"step_min": least} if least else {},
    )


def _plain(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    bias = config.flag("mlp_bias")
    params = {
        "ratio": ratio(config, config.whole("intermediate_size"), "intermediate_size"),
        "activation": config.choice("mlp_hidden_act", ACTIVATIONS),
        "bias": bias,
    }
    maps = {"project_in": "up_proj", "project_out": "down_proj"}
    weights = norm | {
        f"body.{ours}.{what}": take(f"{at}{published}.{what}")
        for ours, published in maps.items()
        for what in (("weight", "bias") if bias else ("weight",))
    }
    return Part("mlp", params, weights)


def _experts(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    """Return plain experts chosen by sigmoid scores, beside a layer for every position."""
    config.only("mlp_hidden_act", "relu2", because="no experts compute this")
    config.only("mlp_bias", False, because="experts have no bias")
    config.passed("n_shared_experts")  # one layer, whose size stands by itself
    count, top_k = config.whole("n_routed_experts"), config.whole("num_experts_per_tok")
    each, whole = "moe_intermediate_size", "moe_shared_expert_intermediate_size"
    params: dict[str, Any] = {
        "experts": count,
        "top_k": top_k,
        "ratio": ratio(config, config.whole(each), each),
        "routing": "sigmoid",
        "weights": "normalised" if config.flag("norm_topk_prob") else "raw",
        "activation": "relu_squared",
        "shared_ratio": ratio(config, config.whole(whole), whole),
    }
    scale = config.number("routed_scaling_factor", least=1e-6)
    groups, open_ones = config.whole("n_group"), config.whole("topk_group")
    if scale != 1:
        params["routed_scale"] = scale
    if groups > 1:
        params |= {"groups": groups, "top_groups": open_ones}
    weights = norm | {
        "body.router.weight": take(f"{at}gate.weight"),
        "body.selection_bias": take(f"{at}gate.e_score_correction_bias"),
        "body.experts_in": _stacked(f"{at}experts.", "up_proj", count),
        "body.experts_out": _stacked(f"{at}experts.", "down_proj", count),
        "body.shared_in.weight": take(f"{at}shared_experts.up_proj.weight"),
        "body.shared_out.weight": take(f"{at}shared_experts.down_proj.weight"),
    }
    latent = config.maybe_whole("moe_latent_size")
    if latent is not None:
        params["latent"] = latent
        weights["body.latent_in.weight"] = take(f"{at}fc1_latent_proj.weight")
        weights["body.latent_out.weight"] = take(f"{at}fc2_latent_proj.weight")
    return Part("moe", params, weights)


def _stacked(at: str, name: str, count: int) -> Take:
    """Return one map of all experts (E, in, out), which a file has whole or by number."""
    each = built([f"{at}{expert}.{name}.weight" for expert in range(count)], torch.stack, list)
    return first_of(take(f"{at}{name}"), each).then(_turned, _turned)


def _turned(maps: Tensor) -> Tensor:
    return maps.transpose(-1, -2)


def _anywhere(part: Part) -> Part:
    """Return a part whose weights stand below ``model`` or, as in published files, below ``backbone``."""
    return replace(part, weights={name: _either(one) for name, one in part.weights.items()})


def _either(one: Take) -> Take:
    other = Take(
        tuple(
            Way(
                tuple("backbone." + n.removeprefix("model.") for n in way.names), way.make, way.back
            )
            for way in one.ways
            if all(n.startswith("model.") for n in way.names)
        )
    )
    return first_of(one, other)


WORDS = {"mamba2": "linear_attention", "attention": "full_attention", "mlp": "mlp", "moe": "moe"}


@writes("nemotron_h", "NemotronHForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Nemotron-H holds for an architecture."""
    kinds = [WORDS[op] for op in of.order(*WORDS)]
    told, moe, plain = of.given("mamba2"), of.given("moe"), of.given("mlp")
    found = written.basics(of, len(kinds), eps="layer_norm_epsilon") | written.heads(
        of, always=True
    )
    del found["attention_bias"], found["num_hidden_layers"]
    shared = written.hidden(of, "moe", "shared_ratio") if moe["shared_ratio"] else 0
    return found | {
        "layers_block_type": kinds,
        "mamba_num_heads": told["heads"],
        "mamba_head_dim": written.head_size(of),
        "ssm_state_size": told["state"],
        "n_groups": told["groups"],
        "conv_kernel": told["conv"],
        "expand": written.expand(of),
        "chunk_size": told["chunk"],
        "use_conv_bias": told["conv_bias"],
        "use_bias": told["bias"],
        "time_step_min": told["step_min"],
        "intermediate_size": written.hidden(of, "mlp"),
        "mlp_hidden_act": written.bend(of, "mlp", "activation") if "mlp" in kinds else "relu2",
        "mlp_bias": plain["bias"] if "mlp" in kinds else False,
        "n_routed_experts": moe["experts"],
        "num_experts_per_tok": moe["top_k"],
        "moe_intermediate_size": written.hidden(of, "moe"),
        "moe_shared_expert_intermediate_size": shared or written.hidden(of, "moe"),
        "moe_latent_size": moe["latent"] or None,
        "norm_topk_prob": moe["weights"] != "raw",
        "routed_scaling_factor": moe["routed_scale"],
        "n_group": moe["groups"],
        "topk_group": moe["top_groups"],
    }
