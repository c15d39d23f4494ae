"""xLSTM against ``transformers``."""

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
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "chunk_size": 16,
    "autocast_kernel_dtype": "float32",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "qk_dim_factor": 1.0,
            "v_dim_factor": 1.5,
            "ffn_round_up_to_multiple_of": 8,
            "gate_soft_cap": 3.0,
            "output_logit_soft_cap": 2.0,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import xLSTMConfig

    model = same(xLSTMConfig(**TINY, **changes))
    (group,) = [node for node in model.architecture.nodes if node.is_group]
    assert group.repeat == 2 and [node.use for node in group.nodes] == ["mlstm", "swiglu"]


def test_maps_may_be_fused_in_the_file() -> None:
    """A model with fused maps cannot be made by ``transformers``, whose first weights do not fit it."""
    from transformers import xLSTMConfig

    config = xLSTMConfig(**TINY)
    found, apart = read(content_of(config)), theirs(config).state_dict()
    first, second = (build(found.architecture, seed=seed) for seed in (0, 1))
    load_weights(first, found.weights, apart)
    fused = dict(apart)
    for block in range(2):
        at = f"backbone.blocks.{block}."
        layer, feed = f"{at}mlstm_layer.", f"{at}ffn."
        for whole, parts in (
            (
                f"{layer}qkv_opreact.weight",
                ("q.weight", "k.weight", "v.weight", "ogate_preact.weight"),
            ),
            (f"{layer}ifgate_preact.weight", ("igate_preact.weight", "fgate_preact.weight")),
            (f"{layer}ifgate_preact.bias", ("igate_preact.bias", "fgate_preact.bias")),
            (f"{feed}proj_up_gate_z.weight", ("proj_up_gate.weight", "proj_up.weight")),
        ):
            place = feed if whole.startswith(feed) else layer
            fused[whole] = torch.cat([fused.pop(place + part) for part in parts])
    load_weights(second, found.weights, fused)
    for ours, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_biases_are_refused() -> None:
    with pytest.raises(SpecError, match="use_bias: nothing here computes this"):
        read({"model_type": "xlstm", "use_bias": True})
