"""Models written for ``transformers``: it opens the folder, computes the same, and has the weights that went in."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybridlab.architecture.document import loads
from hybridlab.architecture.exporters.huggingface import describe, write_folder
from hybridlab.architecture.importers.huggingface import read, writings
from hybridlab.architecture.importers.weights import load_weights
from hybridlab.architecture.model import build
from hybridlab.errors import SpecError
from tests.interop.conftest import content_of, theirs

CLASSES = {
    "bamba": "BambaConfig",
    "falcon_h1": "FalconH1Config",
    "gpt_neox": "GPTNeoXConfig",
    "granitemoehybrid": "GraniteMoeHybridConfig",
    "jamba": "JambaConfig",
    "kimi_linear": "KimiLinearConfig",
    "lfm2": "Lfm2Config",
    "llama": "LlamaConfig",
    "mamba": "MambaConfig",
    "mamba2": "Mamba2Config",
    "minimax": "MiniMaxConfig",
    "mistral": "MistralConfig",
    "mixtral": "MixtralConfig",
    "nemotron_h": "NemotronHConfig",
    "olmo_hybrid": "OlmoHybridConfig",
    "qwen3_next": "Qwen3NextConfig",
    "recurrent_gemma": "RecurrentGemmaConfig",
    "rwkv": "RwkvConfig",
    "xlstm": "xLSTMConfig",
    "zamba2": "Zamba2Config",
}
ROUNDED = {"qwen3_next", "recurrent_gemma", "rwkv"}
"""Families whose files keep the distance of a weight from one, which is read as the weight."""
CHANGES: dict[str, dict[str, Any]] = {
    "jamba": {"attn_layer_offset": 2},
    "llama": {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True},
    "lfm2": {"block_multiple_of": 16},
    "bamba": {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        "position_embedding_type": "rope",
        "logits_scaling": 8.0,
        "attention_multiplier": 8**-0.5,
    },
    "mamba2": {"n_groups": 2},
    "mixtral": {"num_local_experts": 5},
    "mistral": {"sliding_window": 6},
    "zamba2": {
        "layers_block_type": ["hybrid", "linear_attention", "hybrid", "hybrid", "linear_attention"],
        "num_hidden_layers": 5,
        "num_mem_blocks": 2,
        "use_shared_attention_adapter": True,
        "use_mem_rope": True,
    },
}


def small(name: str) -> Any:
    """Return a config of a family, of the size that its own tests use."""
    import transformers

    tiny = importlib.import_module(f"tests.interop.test_{name}").TINY
    return getattr(transformers, CLASSES[name])(**{**tiny, **CHANGES.get(name, {})})


def test_every_family_that_can_be_written_is_tried() -> None:
    assert set(writings()) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    config = small(name)
    found, their_model = read(content_of(config)), theirs(config)
    model = build(found.architecture, seed=0).eval()
    load_weights(model, found.weights, their_model.state_dict(), unused=found.unused)
    written = write_folder(model, tmp_path / "out")
    assert written.family == name and written.checked
    assert written.largest_difference is not None and written.largest_difference < 1e-4
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    again = read(content).architecture
    assert again.fingerprint == found.architecture.fingerprint
    for field in ("vocab_size", "hidden_size", "tie_word_embeddings"):
        assert content[field] == getattr(config, field), field
    kept = load_file(tmp_path / "out" / "model.safetensors")
    for field, tensor in their_model.state_dict().items():
        if field in kept and name not in ROUNDED:
            assert torch.equal(kept[field], tensor), field
        elif field in kept:
            torch.testing.assert_close(kept[field], tensor, rtol=0, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


CONFIG = """
name: edited
width: 48
norm_eps: 1e-5
nodes:
  - {use: token_embedding, vocab: 61}
  - id: stage
    repeat: 2
    nodes:
      - {use: attention, heads: 6, kv_heads: 2, rotary_base: 500}
      - {use: swiglu, ratio: 2.0}
  - {use: attention, heads: 6, kv_heads: 2, rotary_base: 500}
  - {use: swiglu, ratio: 2.0}
  - {use: rms_norm, eps: 1e-5}
  - {use: lm_head, vocab: 61, norm: false}
"""


def test_a_design_of_ones_own_is_written_where_it_has_a_familys_pattern(tmp_path: Path) -> None:
    model = build(loads(CONFIG), seed=0)
    written = write_folder(model, tmp_path / "own")
    assert written.family == "llama" and written.checked
    content = json.loads((tmp_path / "own" / "config.json").read_text())
    assert content["num_hidden_layers"] == 3 and content["intermediate_size"] == 96
    assert content["rope_parameters"]["rope_theta"] == 500
    with pytest.raises(SpecError, match="is there already"):
        write_folder(model, tmp_path / "own")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("rotary_base: 500", "soft_cap: 30, rotary_base: 500"), "stage.0.attention.soft_cap"),
        (("{use: swiglu, ratio: 2.0}", "{use: mlp}"), "stage.0.mlp"),
        (("repeat: 2", "repeat: 2\n    tie: true"), "stage.attention"),
        (("norm: false", "norm: false, soft_cap: 9.0"), "lm_head.soft_cap"),
    ],
)
def test_what_a_family_lacks_is_told_by_its_path(
    change: tuple[str, str], path: str, tmp_path: Path
) -> None:
    model = build(loads(CONFIG.replace(*change)), seed=0)
    with pytest.raises(SpecError) as caught:
        write_folder(model, tmp_path / "out", family="llama")
    assert caught.value.problems[0].path == path
    assert not list(tmp_path.iterdir())


def test_multipliers_and_token_ids_are_kept_from_a_config(tmp_path: Path) -> None:
    tiny = importlib.import_module("tests.interop.test_granitemoehybrid")
    content = {"model_type": "granitemoehybrid", **tiny.TINY, **tiny.FACTORS, "eos_token_id": 7}
    found = read(content)
    plain = describe(found.architecture).config
    assert plain["residual_multiplier"] == 1 and plain["eos_token_id"] is None
    like = describe(found.architecture, like=content).config
    assert {key: like[key] for key in content} == content
    smaller = content | {"vocab_size": 64}
    model = build(read(smaller).architecture, seed=0)
    written = write_folder(model, tmp_path / "out", like=content)
    assert written.checked
    kept = json.loads((tmp_path / "out" / "config.json").read_text())
    assert kept["vocab_size"] == 64 and kept["eos_token_id"] == 7
    assert kept["residual_multiplier"] == 0.22 and kept["attention_multiplier"] == 0.0156
