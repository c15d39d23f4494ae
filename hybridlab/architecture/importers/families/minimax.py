"""MiniMax: lightning attention between layers of softmax attention, and experts; https://arxiv.org/abs/2501.08313."""

from __future__ import annotations

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
    attention,
    embedding,
    experts,
    final,
    norm_weights,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import built, take
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000_000.0,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "attention_dropout": 0.0,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "layer_types": None,
    "block_size": 256,
    "full_attn_alpha_factor": 1,
    "full_attn_beta_factor": 1,
    "linear_attn_alpha_factor": 1,
    "linear_attn_beta_factor": 1,
    "mlp_alpha_factor": 1,
    "mlp_beta_factor": 1,
}
LAYERS = ("full_attention", "linear_attention")
DECAYS = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
"""Numbers that files keep beside the weights, and that follow from a layer's place."""


@family("minimax", source="https://arxiv.org/abs/2501.08313", defaults=DEFAULTS)
def minimax(config: Fields) -> Draft:
    """Read lightning or softmax attention and experts; what they add to is normed too."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    draft.unused += tuple(f"*.self_attn.{name}" for name in DECAYS)
    if shared:
        draft.unused += ("lm_head.weight",)
    config.only("hidden_act", "silu", "swish")
    config.dropout("attention_dropout", "router_jitter_noise")
    positions, window = rotary(config), config.maybe_whole("sliding_window")
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    kinds = _layers(config)
    for layer, kind in enumerate(kinds):
        at = f"model.layers.{layer}."
        if kind == "full_attention":
            mixer = attention(config, f"{at}self_attn.", {}, positions=positions, window=window)
        else:
            mixer = _lightning(config, f"{at}self_attn.", layer, len(kinds))
        places = (f"{at}mlp.", f"{at}block_sparse_moe.")
        feed = experts(
            config,
            {},
            count=config.whole("num_local_experts"),
            top_k=config.whole("num_experts_per_tok"),
            router=tuple(f"{place}gate.weight" for place in places),
            at=tuple(f"{place}experts." for place in places),
            balance=config.number("router_aux_loss_coef", least=0),
        )
        factors = "full_attn" if kind == "full_attention" else "linear_attn"
        draft.layers.append(
            (
                _added(config, mixer, f"{at}input_layernorm", eps, factors),
                _added(config, feed, f"{at}post_attention_layernorm", eps, "mlp"),
            )
        )
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared)
    return draft


def _layers(config: Fields) -> list[str]:
    count = config.whole("num_hidden_layers")
    kinds = list(map(str, config.listed("layer_types")))
    if not kinds:
        return [LAYERS[layer % 2] for layer in range(count)]
    if len(kinds) != count or not set(kinds) <= set(LAYERS):
        config.refuse(
            "layer_types", "does not name each layer's kind", f"{count} of {' or '.join(LAYERS)}"
        )
    return kinds


def _lightning(config: Fields, at: str, layer: int, layers: int) -> Part:
    heads = config.whole("num_attention_heads")
    params: dict[str, Any] = {"heads": heads}
    size = config.maybe_whole("head_dim")
    if size is not None and size * heads != config.whole("hidden_size"):
        params["head_dim"] = size
    params["scale"] = 1 - layer / (layers - 1 + 1e-5) + 1e-5
    params["chunk"] = min(max(config.whole("block_size"), 8), 1024)

    def inwards(maps: list[Tensor]) -> Tensor:
        """Reorder rows from head by head to all queries, all keys, all values; the gate follows."""
        fused, gate = maps
        by_kind = torch.unflatten(fused, 0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        return torch.cat((by_kind, gate))

    def apart(whole: Tensor) -> list[Tensor]:
        """Undo it."""
        by_kind, gate = torch.split(whole, [3 * whole.shape[0] // 4, whole.shape[0] // 4])
        by_head = torch.unflatten(by_kind, 0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
        return [by_head, gate]

    weights = {
        "body.project_in.weight": built(
            (f"{at}qkv_proj.weight", f"{at}output_gate.weight"), inwards, apart
        ),
        "body.norm.scale": take(f"{at}norm.weight"),
        "body.project_out.weight": take(f"{at}out_proj.weight"),
    }
    return Part("lightning_attention", params, weights)


def _added(config: Fields, part: Part, norm: str, eps: float, factors: str) -> Part:
    """Return alpha n + beta f(n) of n = norm(x)."""
    scales = [config.number(f"{factors}_{which}_factor") for which in ("alpha", "beta")]
    return Part(
        id=f"{part.use}_added",
        parts=(
            Part(
                "rms_norm",
                {"eps": eps},
                norm_weights(norm, prefix="body."),
                id="norm",
                inputs=(INPUT,),
            ),
            replace(part, id="branch", residual=Residual.NONE),
            Part(
                "sum",
                {} if scales == [1, 1] else {"scales": scales},
                id="join",
                inputs=("norm", "branch"),
            ),
        ),
    )


@writes("minimax", "MiniMaxForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of MiniMax holds for an architecture."""
    mixers, moe = of.order("attention", "lightning_attention"), of.given("moe")
    found = written.basics(of, len(mixers)) | written.heads(of, always=True) | written.rope(of)
    del found["attention_bias"]
    found |= {
        "sliding_window": of.given("attention")["window"],
        "layer_types": [LAYERS[mixer != "attention"] for mixer in mixers],
        "block_size": of.given("lightning_attention")["chunk"],
        "intermediate_size": written.hidden(of, "moe"),
        "num_local_experts": moe["experts"],
        "num_experts_per_tok": moe["top_k"],
        "router_aux_loss_coef": moe["balance_weight"],
    }
    for at, line in enumerate(of.lines):
        if line.op in ("attention", "lightning_attention", "moe"):
            joins = (one for one in of.lines if at in one.reads)
            scales = next((one.params.get("scales") for one in joins), None) or (1.0, 1.0)
            name = {"attention": "full_attn", "moe": "mlp"}.get(line.op, "linear_attn")
            found |= {f"{name}_alpha_factor": scales[0], f"{name}_beta_factor": scales[-1]}
    return found
