"""Nemotron-H against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hybridlab.architecture.importers.huggingface import read
from hybridlab.architecture.importers.weights import load_weights
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import SpecError
from tests.interop.conftest import content_of, theirs

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "mamba_num_heads": 4,
    "mamba_head_dim": 12,
    "ssm_state_size": 8,
    "n_groups": 2,
    "chunk_size": 16,
    "n_routed_experts": 8,
    "moe_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 40,
}
BRANCHED = {
    "hybrid_override_pattern": "ME*EM",
    "num_experts_per_tok": 3,
    "moe_latent_size": 16,
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": False,
    "routed_scaling_factor": 2.5,
    "use_bias": True,
    "use_conv_bias": False,
    "time_step_min": 0.5,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"]},
        {"hybrid_override_pattern": "M-*-", "mlp_bias": True},
        BRANCHED,
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import NemotronHConfig

    same(NemotronHConfig(**TINY | changes))


def test_the_bias_of_the_choice_is_read() -> None:
    from transformers import NemotronHConfig

    config = NemotronHConfig(**TINY | BRANCHED)
    found, their_model = read(content_of(config)), theirs(config)
    for name, buffer in their_model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.randn_like(buffer))
    our_model = build(found.architecture, seed=0).eval()
    load_weights(our_model, found.weights, their_model.state_dict(), unused=found.unused)
    tokens = torch.arange(24).view(2, 12)
    with torch.no_grad():
        expected = their_model(tokens, use_cache=False).logits
        torch.testing.assert_close(our_model(tokens), expected, rtol=1e-4, atol=1e-4)


def test_a_pattern_and_a_list_say_the_same() -> None:
    content = {"model_type": "nemotron_h"}
    listed = read(content | {"layers_block_type": ["mamba", "attention", "mlp", "moe"]})
    assert listed.architecture == read(content | {"hybrid_override_pattern": "M*-E"}).architecture


@pytest.mark.parametrize(
    ("name", "value"), [("hybrid_override_pattern", "MX"), ("tie_word_embeddings", True)]
)
def test_what_the_family_does_not_have_is_refused(name: str, value: object) -> None:
    with pytest.raises(SpecError, match=name):
        read({"model_type": "nemotron_h", name: value})
