"""Which parameters of a component change what it computes, with what is left empty worked out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybridlab.components.channel_mixers.hidden_size import hidden_size
from hybridlab.components.registry import lookup

_ASIDE = {"chunk", "std", "balance_weight", "bias_step"}
"""How weights start and move, and in which portions the same is computed."""
_SCALING = ("factor", "trained", "slow", "fast", "magnitude")


def essential(use: str, params: dict[str, Any], width: int) -> dict[str, Any]:
    """Return the parameters of a component that change what it computes.

    Args:
        use: the component's name.
        params: all its parameters.
        width: the architecture's width D.
    """
    found = {name: value for name, value in params.items() if name not in _ASIDE}
    for name in ("ratio", "shared_ratio"):
        if found.get(name):
            found[name.replace("ratio", "hidden")] = hidden_size(found.pop(name), width)
    change = _SPECIAL.get(use)
    return found if change is None else change(found, width)


def _without(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in names}


def _attention(params: dict[str, Any], width: int) -> dict[str, Any]:
    told = lookup("attention").cls.Params.model_validate(params)
    size = told.head_size(width)  # type: ignore[attr-defined]
    params |= {
        "head_dim": size,
        "kv_heads": params["kv_heads"] or params["heads"],
        "scale": params["scale"] or size**-0.5,
    }
    if not params["qk_norm"]:
        params = _without(params, "qk_norm_over", "norm_eps")
    if params["rotary"]:
        params["rotary_share"] = told.turning(width) / size  # type: ignore[attr-defined]
    return _turns(params, told)


def _turns(params: dict[str, Any], told: Any) -> dict[str, Any]:
    """Leave out what rotary positions do not use, or all of it where nothing turns."""
    if not params["rotary"]:
        return {name: value for name, value in params.items() if not name.startswith("rotary_")}
    params["rotary_magnitude"] = told.magnitude
    if params["rotary_scaling"] == "none":
        return _without(params, *(f"rotary_{name}" for name in _SCALING))
    if params["rotary_scaling"] == "linear":
        return _without(params, "rotary_trained", "rotary_slow", "rotary_fast")
    return params | {"rotary_fast": told.fastest}


def _mamba(params: dict[str, Any], width: int) -> dict[str, Any]:
    params["step_rank"] = params["step_rank"] or -(-width // 16)
    return params if params["norms"] else _without(params, "eps")


def _mamba2(params: dict[str, Any], width: int) -> dict[str, Any]:
    params["head_dim"] = params["head_dim"] or params.pop("expand") * width // params["heads"]
    params.pop("expand", None)
    return params if params["norm"] != "none" else _without(params, "eps", "norm_groups")


def _gated_delta_net(params: dict[str, Any], width: int) -> dict[str, Any]:
    each = width // params["heads"]
    return params | {
        "key_heads": params["key_heads"] or params["heads"],
        "key_dim": params["key_dim"] or each,
        "value_dim": params["value_dim"] or each,
    }


def _kimi_delta_attention(params: dict[str, Any], width: int) -> dict[str, Any]:
    each = width // params["heads"]
    value = params["value_dim"] or each
    return params | {
        "key_dim": params["key_dim"] or each,
        "value_dim": value,
        "gate_rank": params["gate_rank"] or value,
    }


def _latent_attention(params: dict[str, Any], width: int) -> dict[str, Any]:
    told = lookup("latent_attention").cls.Params.model_validate(params)
    each = width // params["heads"]
    nope = params["nope_dim"] or each
    params |= {
        "nope_dim": nope,
        "value_dim": params["value_dim"] or each,
        "scale": params["scale"] or (nope + params["rope_dim"]) ** -0.5,
    }
    return _turns(params, told)


def _moe(params: dict[str, Any], width: int) -> dict[str, Any]:
    if params["weights"] == "auto":
        params["weights"] = "normalised" if params["top_k"] > 1 else "raw"
    if params["routing"] != "expert_choice":
        params.pop("capacity_factor")  # places run out in training alone
    return params if params["groups"] > 1 else _without(params, "top_groups")


def _head_dim(params: dict[str, Any], width: int) -> dict[str, Any]:
    return params | {"head_dim": params["head_dim"] or width // params["heads"]}


def _hidden(params: dict[str, Any], width: int) -> dict[str, Any]:
    return params | {"hidden": params["hidden"] or width}


def _mlstm(params: dict[str, Any], width: int) -> dict[str, Any]:
    sizes = {name: int(width * params[name]) for name in ("key_ratio", "value_ratio")}
    return params | sizes


def _token_embedding(params: dict[str, Any], width: int) -> dict[str, Any]:
    return params if params["positions"] else _without(params, "max_length")


_SPECIAL: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {
    "attention": _attention,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "gated_delta_net": _gated_delta_net,
    "kimi_delta_attention": _kimi_delta_attention,
    "latent_attention": _latent_attention,
    "moe": _moe,
    "lightning_attention": _head_dim,
    "rg_lru": _hidden,
    "rwkv4": _hidden,
    "mlstm": _mlstm,
    "token_embedding": _token_embedding,
}
