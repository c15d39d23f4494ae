"""RWKV-4 against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_hidden_size": 24, "intermediate_size": 40, "layer_norm_epsilon": 0.01},
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import RwkvConfig

    model = same(RwkvConfig(**TINY, **changes))
    (group,) = [node for node in model.architecture.nodes if node.is_group]
    assert group.repeat == 3 and [node.use for node in group.nodes] == ["rwkv4", "rwkv_channel_mix"]


def test_a_tied_head_shares_the_table(same: Callable[..., GraphModel]) -> None:
    from transformers import RwkvConfig

    same(RwkvConfig(**TINY, tie_word_embeddings=True))
