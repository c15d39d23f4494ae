"""OLMo Hybrid: Gated DeltaNet with attention every fourth layer, which is normalised after its layers, not before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.families.qwen3_next import (
    delta_fields,
    gated_delta_net,
    layer_kinds,
)
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    attention,
    embedding,
    final,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.query_norms import with_query_norms
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import Take, first_of, joined, take
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 100352,
    "hidden_size": 3840,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 30,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 65536,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "layer_types": None,
    "linear_num_key_heads": None,
    "linear_num_value_heads": None,
    "linear_key_head_dim": None,
    "linear_value_head_dim": None,
    "linear_a_log_min": 0.0,
    "linear_a_log_max": 16.0,
    "linear_dt_min": 0.001,
    "linear_dt_max": 0.1,
    "linear_dt_init_floor": 1e-4,
    "linear_conv_kernel_dim": 4,
    "linear_allow_neg_eigval": True,
}
# How weights start.
HARMLESS = {
    *("linear_a_log_min", "linear_a_log_max"),
    *("linear_dt_min", "linear_dt_max", "linear_dt_init_floor"),
}
INNER_EPS = 1e-5


@family(
    "olmo_hybrid",
    source="https://allenai.org/blog/olmohybrid",
    defaults=DEFAULTS,
    harmless=HARMLESS,
)
def olmo_hybrid(config: Fields) -> Draft:
    """Read Gated DeltaNet, pre-norm, or attention, whose outputs are normalised, and feed-forward layers alike."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    positions = rotary(config)
    rope = config.raw("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope and rope["rope_theta"] is None:
        positions = {"rotary": False}
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    for layer, kind in enumerate(_layers(config)):
        at = f"model.layers.{layer}."
        after = (f"{at}post_attention_layernorm", f"{at}feedforward_layer_norm")
        if kind == "full_attention":
            mixer = _attention(config, f"{at}self_attn.", positions, eps)
            feed = swiglu(config, f"{at}mlp.", {})
            draft.layers.append(
                (
                    _normed_after(mixer, _scale(*after), eps),
                    _normed_after(feed, _scale(f"{at}post_feedforward_layernorm"), eps),
                )
            )
        else:
            mixer = gated_delta_net(
                config,
                f"{at}linear_attn.",
                {"norm.scale": _scale(f"{at}input_layernorm", f"{at}attention_layer_norm")},
                inwards=joined(
                    *(f"{at}linear_attn.{name}_proj.weight" for name in "qkvgba"),
                    rows=_rows(config),
                ),
                eps=INNER_EPS,
                negative=config.flag("linear_allow_neg_eigval"),
                conv=first_of(
                    take(f"{at}linear_attn.conv1d.weight"),
                    joined(*(f"{at}linear_attn.{name}_conv1d.weight" for name in "qkv")),
                ),
                names=("o_norm", "o_proj"),
            )
            draft.layers.append(
                (mixer, swiglu(config, f"{at}mlp.", {"norm.scale": _scale(*after)}))
            )
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared)
    return draft


def _layers(config: Fields) -> list[str]:
    """Return the kind of each layer; a model of less than four attends in its last."""
    kinds = layer_kinds(config)
    if "full_attention" not in kinds and not config.given("layer_types"):
        kinds[-1] = "full_attention"
    return kinds


def _rows(config: Fields) -> list[int]:
    """Return the rows of queries, keys, values, gate, beta and step."""
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    key_heads = config.maybe_whole("linear_num_key_heads") or heads
    heads = config.maybe_whole("linear_num_value_heads") or heads
    key = config.maybe_whole("linear_key_head_dim") or int(0.75 * width / key_heads)
    values = heads * (config.maybe_whole("linear_value_head_dim") or 2 * key)
    return [key_heads * key, key_heads * key, values, values, heads, heads]


def _scale(*names: str) -> Take:
    """Return the scale of a norm that files name in several ways."""
    return first_of(*(take(f"{name}.weight") for name in names))


def _attention(config: Fields, at: str, positions: dict[str, object], eps: float) -> Part:
    """Return attention whose queries and keys are normalised over all heads."""
    bias = config.flag("attention_bias")
    return with_query_norms(
        attention(config, at, {}, positions=positions, bias=bias),
        take(f"{at}q_norm.weight"),
        take(f"{at}k_norm.weight"),
        eps,
        over="all",
    )


def _normed_after(part: Part, scale: Take, eps: float) -> Part:
    """Return x + norm(f(x))."""
    return Part(
        id=f"{part.use}_normed",
        parts=(
            replace(part, inputs=(INPUT,), residual=Residual.NONE),
            Part("rms_norm", {"eps": eps}, {"body.scale": scale}, id="norm"),
            Part("sum", id="join", inputs=(INPUT, "norm")),
        ),
    )


@writes("olmo_hybrid", "OlmoHybridForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of OLMo Hybrid holds for an architecture."""
    mixers, told = of.order("attention", "gated_delta_net"), of.given("attention")
    found = written.basics(of, len(mixers)) | written.heads(of) | delta_fields(of)
    found |= written.rope(of) if told["rotary"] else {"rope_parameters": {"rope_theta": None}}
    kinds = ("linear_attention", "full_attention")
    return found | {
        "layer_types": [kinds[mixer == "attention"] for mixer in mixers],
        "linear_allow_neg_eigval": of.given("gated_delta_net")["negative"],
        "intermediate_size": written.hidden(of),
        "hidden_act": written.bend(of),
    }
