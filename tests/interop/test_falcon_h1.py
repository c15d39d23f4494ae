"""Falcon-H1 against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.importers.huggingface import read
from hybridlab.architecture.model import GraphModel
from hybridlab.errors import SpecError

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_n_heads": 4,
    "mamba_d_ssm": 24,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
}
FACTORS = {
    "lm_head_multiplier": 0.7,
    "embedding_multiplier": 1.7,
    "mlp_multipliers": [0.8, 1.4],
    "key_multiplier": 0.5,
    "attention_in_multiplier": 1.2,
    "attention_out_multiplier": 0.9,
    "ssm_multipliers": [0.6, 1.3, 0.7, 1.5, 0.9],
    "ssm_in_multiplier": 1.1,
    "ssm_out_multiplier": 0.6,
}
BIASES = dict.fromkeys(("projectors_bias", "mamba_proj_bias", "attention_bias", "mlp_bias"), True)
NORMED = {"mamba_rms_norm": True, "mamba_n_groups": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**FACTORS, **NORMED},
        {
            **FACTORS,
            **BIASES,
            **NORMED,
            "mamba_norm_before_gate": False,
            "mamba_d_ssm": None,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e11},
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import FalconH1Config

    same(FalconH1Config(**TINY | changes))


def test_factors_that_do_not_fit_are_refused() -> None:
    content = {"model_type": "falcon_h1", "ssm_multipliers": [1.0], "projectors_bias": True}
    with pytest.raises(SpecError) as caught:
        read(content)
    assert {problem.path for problem in caught.value.problems} == set(content) - {"model_type"}
