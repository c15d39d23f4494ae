"""Every family's defaults are those of ``transformers``, and so is its count of parameters."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import families, read
from tests.interop.conftest import content_of

FAMILIES = list(families())
LEGACY = {"rope_theta", "rotary_pct", "rotary_emb_base"}
"""Names from before ``rope_parameters``, which the config classes still read."""


PUBLISHED = {
    "jamba": 51.570,
    "zamba2": 2.482,
    "falcon_h1": 8.515,
    "qwen3_next": 79.674,
    "recurrent_gemma": 2.010,
}
"""Billions of parameters of some defaults, so that a change of both counts is seen."""
BRANCHES = {
    "bamba": {"attn_layer_indices": [0]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "num_hidden_layers": 2},
    "lfm2": {"full_attn_idxs": [1]},
    "zamba2": {"use_mem_rope": True},
}
"""What a family must be told to read all of its fields."""


def config_class(name: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_defaults_are_the_published_ones(name: str) -> None:
    fields = {key: item.default for key, item in config_class(name).__dataclass_fields__.items()}
    for key, value in families()[name].defaults.items():
        if key not in LEGACY:
            assert fields[key] == value, key
    made = config_class(name)()
    rope = getattr(made, "rope_parameters", None)
    if rope is not None:
        ours = families()[name].defaults
        assert rope["rope_theta"] == ours.get("rope_theta", ours.get("rotary_emb_base"))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_default_is_read(name: str) -> None:
    family = families()[name]
    fields = Fields(
        {"model_type": name} | BRANCHES.get(name, {}), family.defaults, harmless=family.harmless
    )
    family.read(fields)
    assert fields.unread_defaults() == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_model_has_as_many_parameters(name: str) -> None:
    import transformers
    from transformers import AutoModelForCausalLM

    config = config_class(name)()
    started = time.process_time()
    alone = count_parameters(read({"model_type": name}).architecture)
    whole = count_parameters(read(content_of(config)).architecture)
    assert time.process_time() - started < 10, "two readings"
    transformers.logging.set_verbosity_error()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert alone == whole == sum(parameter.numel() for parameter in model.parameters())
    assert name not in PUBLISHED or round(alone / 1e9, 3) == PUBLISHED[name]
