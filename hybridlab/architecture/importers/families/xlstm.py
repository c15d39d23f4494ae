"""xLSTM-7B and its like: https://arxiv.org/abs/2503.13427."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import embedding, final, norm_weights, ratio
from hybridlab.architecture.importers.weights import first_of, joined, take

DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "embedding_dim": None,
    "num_hidden_layers": 32,
    "num_blocks": None,
    "num_heads": 8,
    "use_bias": False,
    "tie_word_embeddings": False,
    "add_out_norm": True,
    "norm_eps": 1e-6,
    "qk_dim_factor": 0.5,
    "v_dim_factor": 1.0,
    "chunk_size": 64,
    "eps": 1e-6,
    "ffn_proj_factor": 2.667,
    "ffn_round_up_to_multiple_of": 64,
    "gate_soft_cap": 15.0,
    "output_logit_soft_cap": 30.0,
    "weight_mode": "single",
}
# Which kernels compute it, in which precision and in how long parts.
HARMLESS = {
    *("chunkwise_kernel", "sequence_kernel", "step_kernel", "mode", "return_last_states"),
    *("autocast_kernel_dtype", "inference_state_dtype", "norm_reduction_force_float32"),
    *("max_inference_chunksize", "weight_mode"),
}
INNER_EPS = 1e-6


@family("xlstm", source="https://arxiv.org/abs/2503.13427", defaults=DEFAULTS, harmless=HARMLESS)
def xlstm(config: Fields) -> Draft:
    """Read mLSTM and a gated feed-forward layer, pre-norm, over and over."""
    eps, width = INNER_EPS, config.whole("hidden_size")
    for name in ("norm_eps", "eps"):
        config.only(name, INNER_EPS)
    for name in ("use_bias", "tie_word_embeddings"):
        config.only(name, False)
    config.only("add_out_norm", True)
    config.only("embedding_dim", None, width)
    draft = Draft(width, "rms_norm", eps)
    draft.before = [embedding(config, "backbone.embeddings.weight")]
    layers = config.whole("num_hidden_layers")
    for layer in range(config.maybe_whole("num_blocks") or layers):
        at = f"backbone.blocks.{layer}."
        draft.layers.append((_mlstm(config, at), _feed_forward(config, at)))
    cap = _cap(config, "output_logit_soft_cap")
    draft.after = final(config, "rms_norm", "backbone.out_norm", eps, soft_cap=cap)
    return draft


def _cap(config: Fields, name: str) -> float | None:
    return None if config.raw(name) is None else config.number(name, least=1e-6)


def _mlstm(config: Fields, at: str) -> Part:
    """Return the mLSTM, whose maps are apart or fused in the file."""
    width, layer = config.whole("hidden_size"), f"{at}mlstm_layer."
    keys, values = (
        int(width * config.number(f"{which}_dim_factor", least=0)) for which in ("qk", "v")
    )
    params: dict[str, Any] = {
        "heads": config.whole("num_heads"),
        "key_ratio": keys / width,
        "value_ratio": values / width,
        "gate_cap": _cap(config, "gate_soft_cap"),
        "chunk": min(config.whole("chunk_size", least=2), 1024),
    }
    maps, rows = ("q", "k", "v", "ogate_preact"), (keys, keys, values, values)
    weights = norm_weights(f"{at}norm_mlstm") | {
        "body.project_in.weight": first_of(
            joined(*(f"{layer}{name}.weight" for name in maps), rows=rows),
            take(f"{layer}qkv_opreact.weight"),
        ),
        "body.norm.scale": take(f"{layer}multihead_norm.weight"),
        "body.project_out.weight": take(f"{layer}out_proj.weight"),
    }
    for what in ("weight", "bias"):
        weights[f"body.gates.{what}"] = first_of(
            joined(*(f"{layer}{gate}gate_preact.{what}" for gate in "if")),
            take(f"{layer}ifgate_preact.{what}"),
        )
    return Part("mlstm", params, weights)


def _feed_forward(config: Fields, at: str) -> Part:
    name, multiple = "ffn_proj_factor", config.whole("ffn_round_up_to_multiple_of")
    wanted = config.whole("hidden_size") * config.number(name, least=0)
    hidden = int((wanted + multiple - 1) // multiple * multiple)
    weights = norm_weights(f"{at}norm_ffn") | {
        "body.project_in.weight": first_of(
            joined(f"{at}ffn.proj_up_gate.weight", f"{at}ffn.proj_up.weight"),
            take(f"{at}ffn.proj_up_gate_z.weight"),
        ),
        "body.project_out.weight": take(f"{at}ffn.proj_down.weight"),
    }
    return Part("swiglu", {"ratio": ratio(config, hidden, name)}, weights)


@writes("xlstm", "xLSTMForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of xLSTM holds for an architecture."""
    told, layers = of.given("mlstm"), len(of.order("mlstm"))
    found = written.basics(of, layers, eps=None)
    found.pop("initializer_range", None)
    return found | {
        "num_blocks": layers,
        "num_heads": told["heads"],
        "qk_dim_factor": told["key_ratio"],
        "v_dim_factor": told["value_ratio"],
        "gate_soft_cap": told["gate_cap"],
        "chunk_size": told["chunk"],
        "output_logit_soft_cap": of.given("lm_head")["soft_cap"],
        "ffn_proj_factor": written.hidden(of) / of.width,
        "ffn_round_up_to_multiple_of": 8,
    }
