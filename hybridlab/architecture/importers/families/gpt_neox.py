"""GPT-NeoX, and Pythia, which is one: https://arxiv.org/abs/2204.06745."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import ADD, NormalForm
from hybridlab.architecture.importers.parts import (
    ACTIVATIONS,
    embedding,
    final,
    norm_weights,
    ratio,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import take
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 50432,
    "hidden_size": 6144,
    "num_hidden_layers": 44,
    "num_attention_heads": 64,
    "intermediate_size": 24576,
    "hidden_act": "gelu",
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10_000.0,
    "rope_parameters": None,
    "attention_bias": True,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "is_decoder": False,
}
UNUSED = ("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq")


@family("gpt_neox", source="https://arxiv.org/abs/2204.06745", defaults=DEFAULTS)
def gpt_neox(config: Fields) -> Draft:
    """Read attention and a feed-forward layer, side by side or one after the other."""
    eps, shared = config.number("layer_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "layer_norm", eps, unused=UNUSED)
    if shared:
        draft.unused += ("embed_out.weight", "lm_head.weight")
    config.dropout("attention_dropout", "hidden_dropout")
    config.raw("is_decoder")
    share, base = config.number("rotary_pct", least=0), config.number("rotary_emb_base", least=1)
    positions = rotary(config, share, base)
    draft.before = [embedding(config, "gpt_neox.embed_in.weight", tied=shared)]
    parallel = config.flag("use_parallel_residual")
    for layer in range(config.whole("num_hidden_layers")):
        at = f"gpt_neox.layers.{layer}."
        attention, feed = _attention(config, at, positions), _feed_forward(config, at)
        draft.layers.append(
            [_side_by_side(attention, feed, eps)] if parallel else [attention, feed]
        )
    norm, heads = "gpt_neox.final_layer_norm", ("lm_head", "embed_out")
    draft.after = final(config, "layer_norm", norm, eps, heads, tied=shared)
    return draft


def _attention(config: Fields, at: str, positions: dict[str, Any]) -> Part:
    heads = config.whole("num_attention_heads")

    def apart(fused: Tensor) -> Tensor:
        """Reorder rows from head by head (query, key, value each) to all queries, all keys, all values."""
        return torch.unflatten(fused, 0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    def together(sorted_rows: Tensor) -> Tensor:
        """Undo it."""
        return torch.unflatten(sorted_rows, 0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)

    params: dict[str, Any] = {"heads": heads, **positions}
    weights = norm_weights(f"{at}input_layernorm", bias=True) | {
        "body.project_in.weight": take(f"{at}attention.query_key_value.weight").then(
            apart, together
        ),
        "body.project_out.weight": take(f"{at}attention.dense.weight"),
    }
    if config.flag("attention_bias"):
        params |= {"bias": True, "out_bias": True}
        weights |= {
            "body.project_in.bias": take(f"{at}attention.query_key_value.bias").then(
                apart, together
            ),
            "body.project_out.bias": take(f"{at}attention.dense.bias"),
        }
    return Part("attention", params, weights)


def _feed_forward(config: Fields, at: str) -> Part:
    hidden = config.whole("intermediate_size")
    params = {
        "ratio": ratio(config, hidden, "intermediate_size"),
        "activation": config.choice("hidden_act", ACTIVATIONS),
    }
    weights = norm_weights(f"{at}post_attention_layernorm", bias=True) | {
        f"body.{ours}.{what}": take(f"{at}mlp.{theirs}.{what}")
        for ours, theirs in (("project_in", "dense_h_to_4h"), ("project_out", "dense_4h_to_h"))
        for what in ("weight", "bias")
    }
    return Part("mlp", params, weights)


def _side_by_side(attention: Part, feed: Part, eps: float) -> Part:
    """Return x + attention(norm(x)) + feed(norm(x)), each with a norm of its own."""
    parts = []
    for name, part in (("attention", attention), ("mlp", feed)):
        norm = {k.replace("norm.", "body."): v for k, v in part.weights.items() if k[:5] == "norm."}
        body = {k: v for k, v in part.weights.items() if k[:5] == "body."}
        parts += [
            Part("layer_norm", {"eps": eps}, norm, id=f"{name}_norm", inputs=(INPUT,)),
            Part(part.use, part.params, body, id=name, residual=Residual.NONE),
        ]
    joined = Part("sum", id="join", inputs=(INPUT, "attention", "mlp"))
    return Part(id="layer", parts=(*parts, joined))


@writes("gpt_neox", "GPTNeoXForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of GPT-NeoX holds for an architecture."""
    told = of.given("attention")
    found = written.basics(of, len(of.order("attention")), eps="layer_norm_eps")
    position = written.rope(of)
    position["rope_parameters"].setdefault("partial_rotary_factor", 1.0)
    return found | {
        **position,
        "num_attention_heads": told["heads"],
        "attention_bias": told["bias"],
        "intermediate_size": written.hidden(of, "mlp"),
        "hidden_act": written.bend(of, "mlp", "activation"),
        "use_parallel_residual": any(line.op == ADD and len(line.reads) > 2 for line in of.lines),
    }
