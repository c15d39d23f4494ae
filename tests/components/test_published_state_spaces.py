"""State spaces with the weights of transformers' models give what those give (their plain PyTorch paths)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import Component

transformers = importlib.import_module("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

Build = Callable[..., Component]
Weights = dict[str, Tensor]

WIDTH = 32
LENGTH = 45
LIMITS = (0.05, 0.4)


def _model(family: str, config: str, mixer: str, **settings: Any) -> torch.nn.Module:
    """Return a mixer of transformers in evaluation, with every weight drawn at random."""
    package = f"transformers.models.{family}"
    configuration = getattr(importlib.import_module(f"{package}.configuration_{family}"), config)
    cls = getattr(importlib.import_module(f"{package}.modeling_{family}"), mixer)
    made = configuration(hidden_size=WIDTH, **settings)
    plain = {"initialize_mixer_weights": False} if family == "falcon_mamba" else {}  # as its block
    module: torch.nn.Module = cls(made, layer_idx=0, **plain)
    module.config = made
    with torch.no_grad():
        for name, weight in module.named_parameters():
            spread = torch.randn_like(weight)
            weight.copy_(1 + 0.3 * spread if "norm" in name else 0.3 * spread)
    return module.eval()


def _agrees(ours: Component, weights: Weights, theirs: Callable[[Tensor], Tensor]) -> None:
    """Compare outputs and the gradients of the input, and the step form."""
    ours.load_state_dict(
        {name: weights[name].reshape(w.shape) for name, w in ours.state_dict().items()}
    )
    assert ours.state_dict().keys() == weights.keys(), "some weights would have no place"
    x = torch.randn(2, LENGTH, WIDTH)
    outputs, grads = [], []
    for form in (theirs, ours):
        given = x.clone().requires_grad_()
        output = form(given)
        grads += torch.autograd.grad(output.square().mean(), given)
        outputs.append(output)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        grads[1], grads[0], rtol=1e-3, atol=1e-4 * float(grads[0].abs().max())
    )
    state, rows = ours.start(2), []
    for x_BD in x.unbind(1):
        row, state = ours.step(state, x_BD)
        rows.append(row)
    torch.testing.assert_close(torch.stack(rows, 1), outputs[0], rtol=1e-4, atol=1e-4)


def _mapped(theirs: torch.nn.Module, names: dict[str, str]) -> Weights:
    """Return their weights under our names; every one of them must have one."""
    given = theirs.state_dict()
    assert given.keys() == names.keys()
    return {names[name]: weight for name, weight in given.items()}


def _maps(bias: bool, conv_bias: bool) -> dict[str, str]:
    names = {
        "in_proj.weight": "project_in.weight",
        "out_proj.weight": "project_out.weight",
        "conv1d.weight": "conv.taps",
        "A_log": "log_rate",
        "D": "skip",
    }
    if bias:
        names |= {"in_proj.bias": "project_in.bias", "out_proj.bias": "project_out.bias"}
    return names | ({"conv1d.bias": "conv.bias"} if conv_bias else {})


@pytest.mark.parametrize(("bias", "conv_bias"), [(False, True), (True, False)])
@pytest.mark.parametrize("family", ["mamba", "jamba", "falcon_mamba"])
def test_mamba(family: str, bias: bool, conv_bias: bool, build: Build) -> None:
    names = _maps(bias, conv_bias) | {
        "x_proj.weight": "select.weight",
        "dt_proj.weight": "project_step.weight",
        "dt_proj.bias": "project_step.bias",
    }
    if family == "jamba":
        theirs = _model(
            "jamba",
            "JambaConfig",
            "JambaMambaMixer",
            mamba_d_state=8,
            mamba_conv_bias=conv_bias,
            mamba_proj_bias=bias,
            mamba_dt_rank=5,
        )
        names |= {
            "dt_layernorm.weight": "step_norm.scale",
            "b_layernorm.weight": "write_norm.scale",
            "c_layernorm.weight": "read_norm.scale",
        }
        ours = build(
            "mamba", WIDTH, norms=True, step_rank=5, state=8, bias=bias, conv_bias=conv_bias
        )
        weights = _mapped(theirs, names)
    else:
        title = family.title().replace("_", "")
        settings = {"state_size": 8, "use_bias": bias, "use_conv_bias": conv_bias}
        theirs = _model(family, f"{title}Config", f"{title}Mixer", **settings)
        extra: dict[str, Any] = {}
        weights = _mapped(theirs, names)
        if family == "falcon_mamba":  # norms without scales
            extra = {"norms": True, "eps": theirs.rms_eps}
            weights |= {"step_norm.scale": torch.ones(2)}
            weights |= {f"{part}_norm.scale": torch.ones(8) for part in ("write", "read")}
        ours = build("mamba", WIDTH, state=8, bias=bias, conv_bias=conv_bias, **extra)
    _agrees(ours, weights, theirs)


MAMBA2: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    # family, configuration, mixer, its settings, ours
    (
        "mamba2",
        "Mamba2Config",
        "Mamba2Mixer",
        {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "time_step_limit": LIMITS},
        {"heads": 8, "groups": 2, "norm_groups": 2},
    ),
    (
        "bamba",
        "BambaConfig",
        "BambaMixer",
        {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_proj_bias": True},
        {"heads": 4, "bias": True, "step_min": 0.0, "step_max": None},
    ),
    (
        "zamba2",
        "Zamba2Config",
        "Zamba2MambaMixer",
        {"n_mamba_heads": 8, "mamba_d_state": 8, "mamba_ngroups": 2, "time_step_min": LIMITS[0]},
        {"heads": 8, "groups": 2, "norm_groups": 2, "step_max": None},
    ),
    (
        "nemotron_h",
        "NemotronHConfig",
        "NemotronHMamba2Mixer",
        {
            "mamba_num_heads": 6,
            "mamba_head_dim": 4,
            "ssm_state_size": 8,
            "n_groups": 3,
            "use_conv_bias": False,
            "time_step_min": LIMITS[0],
        },
        {
            "heads": 6,
            "head_dim": 4,
            "groups": 3,
            "norm_groups": 3,
            "conv_bias": False,
            "step_max": None,
        },
    ),
    (
        "granitemoehybrid",
        "GraniteMoeHybridConfig",
        "GraniteMoeHybridMambaLayer",
        {"mamba_n_heads": 4, "mamba_d_state": 8, "time_step_limit": LIMITS, "rms_norm_eps": 1e-3},
        {"heads": 4, "eps": 1e-3},
    ),
]
for rms_norm, first, said in (
    (False, True, "none"),
    (True, True, "before_gate"),
    (True, False, "after_gate"),
):
    MAMBA2.append(
        (
            "falcon_h1",
            "FalconH1Config",
            "FalconH1Mixer",
            {
                "mamba_d_ssm": 24,
                "mamba_n_heads": 6,
                "mamba_d_state": 8,
                "mamba_n_groups": 2,
                "mamba_rms_norm": rms_norm,
                "mamba_norm_before_gate": first,
                "ssm_in_multiplier": 1.5,
                "ssm_multipliers": [0.5, 2.0, 0.7, 1.3, 1.1],
                "mamba_proj_bias": True,
                "projectors_bias": True,
                "time_step_limit": LIMITS,
            },
            {"heads": 6, "head_dim": 4, "groups": 2, "norm": said, "norm_groups": 2, "bias": True},
        )
    )


@pytest.mark.parametrize(("family", "config", "mixer", "settings", "params"), MAMBA2)
def test_mamba2(
    family: str,
    config: str,
    mixer: str,
    settings: dict[str, Any],
    params: dict[str, Any],
    build: Build,
) -> None:
    theirs: Any = _model(family, config, mixer, **settings)
    names = _maps(params.get("bias", False), params.get("conv_bias", True))
    names |= {"dt_bias": "step_bias"}
    if params.get("norm") != "none":
        names |= {"norm.weight": "norm.scale"}
    if family == "falcon_h1":  # its multipliers are part of the weights
        scales = importlib.import_module("transformers.models.falcon_h1.modeling_falcon_h1")
        theirs.register_buffer(
            "mup_vector", scales.compute_mup_vector(theirs.config), persistent=False
        )
    weights = _mapped(theirs, names)
    if family == "falcon_h1":
        vector = theirs.mup_vector.flatten()
        weights["project_in.bias"] = weights["project_in.bias"] * vector
        weights["project_in.weight"] = (
            weights["project_in.weight"] * vector.unsqueeze(1) * theirs.ssm_in_multiplier
        )
    settings_of_ours = {"state": 8, "step_min": LIMITS[0], "step_max": LIMITS[1]} | params
    _agrees(build("mamba2", WIDTH, **settings_of_ours), weights, theirs)


def test_recurrent_gemma(build: Build) -> None:
    theirs: Any = _model(
        "recurrent_gemma",
        "RecurrentGemmaConfig",
        "RecurrentGemmaRecurrentBlock",
        lru_width=24,
        num_attention_heads=3,
    )
    given = theirs.state_dict()
    weights = {
        "project_gate.weight": given["linear_y.weight"],
        "project_gate.bias": given["linear_y.bias"],
        "project_in.weight": given["linear_x.weight"],
        "project_in.bias": given["linear_x.bias"],
        "project_out.weight": given["linear_out.weight"],
        "project_out.bias": given["linear_out.bias"],
        "conv.taps": given["conv_1d.weight"],
        "conv.bias": given["conv_1d.bias"],
        "decay": given["rg_lru.recurrent_param"],
        "gates": torch.cat(
            (given["rg_lru.input_gate_weight"], given["rg_lru.recurrent_gate_weight"]), -1
        ),
        "gate_bias": torch.cat(
            (given["rg_lru.input_gate_bias"], given["rg_lru.recurrent_gate_bias"]), -1
        ),
    }
    assert len(given) == len(weights) + 2
    positions = torch.arange(LENGTH).expand(2, -1)

    def run(x: Tensor) -> Tensor:
        output: Tensor = theirs(x, positions, None, use_cache=False)[0]
        return output

    _agrees(build("rg_lru", WIDTH, hidden=24, heads=3), weights, run)
