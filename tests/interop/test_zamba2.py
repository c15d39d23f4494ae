"""Zamba2 against ``transformers``: blocks used at several places, each use with its own low-rank pairs."""

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
    "num_attention_heads": 4,
    "n_mamba_heads": 4,
    "mamba_d_state": 8,
    "chunk_size": 16,
    "adapter_rank": 3,
}
M, H = "linear_attention", "hybrid"


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        ([M, H, M, H, M, H, M], {}),
        (
            [H, M, H, H, H, M, H],
            {
                "num_mem_blocks": 2,
                "use_shared_attention_adapter": True,
                "use_mem_rope": True,
                "add_bias_linear": True,
                "mamba_ngroups": 2,
            },
        ),
    ],
)
def test_the_same_as_theirs(
    same: Callable[..., GraphModel], kinds: list[str], changes: dict[str, Any]
) -> None:
    from transformers import Zamba2Config

    config = Zamba2Config(**TINY | changes, layers_block_type=kinds, num_hidden_layers=len(kinds))
    model = same(config)
    blocks = changes.get("num_mem_blocks", 1)
    kept = {id(slot.body.project_out.weight) for path, slot in model.slots() if "swiglu" in path}
    pairs = {id(slot.body.project_in.up) for path, slot in model.slots() if "swiglu" in path}
    assert len(kept) == blocks and len(pairs) == kinds.count(H)


def test_what_the_family_does_not_have_is_refused() -> None:
    content = {"model_type": "zamba2", "use_long_context": True, "mamba_headdim": 7}
    content["tie_word_embeddings"] = False
    with pytest.raises(SpecError) as caught:
        read(content | {"layers_block_type": ["attention"], "num_hidden_layers": 54})
    assert {problem.path for problem in caught.value.problems} == {
        *("use_long_context", "mamba_headdim", "layers_block_type", "tie_word_embeddings")
    }
