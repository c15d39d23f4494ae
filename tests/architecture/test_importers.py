"""Configs of published models as architectures: what is read, what is refused, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.importers import megatron
from hybridlab.architecture.importers.draft import Part, blocks
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import families, read, read_file
from hybridlab.architecture.importers.weights import load_weights, take
from hybridlab.architecture.model import build
from hybridlab.errors import Problem, SpecError

LLAMA = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def refused(content: Any) -> dict[str, Problem]:
    with pytest.raises(SpecError) as raised:
        read(content)
    return {problem.path: problem for problem in raised.value.problems}


def test_families_have_a_source_and_read_their_own_defaults() -> None:
    assert {"llama", "mistral", "mixtral", "gpt_neox", "mamba2", "bamba"} <= set(families())
    for family in families().values():
        assert family.source.startswith("https://")


def test_a_family_that_is_not_known_is_told_with_those_that_are() -> None:
    (problem,) = refused({"model_type": "lama"}).values()
    assert problem.path == "model_type" and "did you mean 'llama'?" in problem.fix
    assert "mixtral" in problem.expected
    assert refused({})["model_type"].message == "is missing"
    for content in ([], None, "llama", 3):
        refused(content)


def test_everything_wrong_is_told_at_once() -> None:
    problems = refused(
        LLAMA
        | {
            "hidden_size": "wide",
            "num_hidden_layers": -1,
            "hidden_act": "tanh",
            "mlp_bias": "no",
            "rope_scaling": {"rope_type": "dynamic", "factor": 8.0},
            "number_of_moons": 3,
            "rms_norm_epsilon": 1e-5,
        }
    )
    assert set(problems) == {
        *("hidden_size", "num_hidden_layers", "hidden_act", "mlp_bias"),
        *("rope_scaling.rope_type", "number_of_moons", "rms_norm_epsilon"),
    }
    assert problems["hidden_size"].got == "'wide'"
    assert problems["number_of_moons"].message == "unknown field"
    assert "did you mean 'rms_norm_eps'?" in problems["rms_norm_epsilon"].fix
    assert all(p.message and p.got for p in problems.values())


def test_a_field_can_be_ignored_by_name() -> None:
    found = read(LLAMA | {"number_of_moons": 3}, ignored=["number_of_moons"])
    assert any("number_of_moons" in note for note in found.notes)
    assert found.architecture == read(LLAMA).architecture


def test_what_says_nothing_about_the_model_is_passed_over() -> None:
    extra = {
        "_name_or_path": "someone/tiny-llama",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "unknown_but_null": None,
        "attention_dropout": 0.1,
        "quantization_config": {"bits": 4},
    }
    found = read(LLAMA | extra)
    assert found.architecture.name == "tiny-llama"
    assert len(found.notes) == 2
    assert found.architecture.fingerprint == read(LLAMA).architecture.fingerprint


def test_missing_fields_are_the_familys() -> None:
    architecture = read({"model_type": "llama"}).architecture
    assert architecture.width == 4096 and architecture.norm_eps == 1e-6
    group = architecture.nodes[1]
    assert group.repeat == 32 and [node.use for node in group.nodes] == ["attention", "swiglu"]
    assert count_parameters(architecture) == 6_738_415_616
    assert loads(dump(architecture)).fingerprint == architecture.fingerprint


def test_older_and_newer_names_of_rotary_positions() -> None:
    for field in (
        {"rope_theta": 5e5},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    ):
        assert read(LLAMA | field).architecture.nodes[1].nodes[0].params["rotary_base"] == 5e5


def test_a_tied_table_is_counted_once() -> None:
    apart = count_parameters(read(LLAMA).architecture)
    tied = count_parameters(read(LLAMA | {"tie_word_embeddings": True}).architecture)
    assert apart - tied == 50 * 16


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "not a config"), ("", "not JSON"), ('{"model_type": 3}', "family")],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_file(file)
    with pytest.raises(SpecError, match="cannot be read"):
        read_file(tmp_path / "nothing.json")


def test_weights_come_from_files_and_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    found = read(LLAMA)
    model = build(found.architecture, seed=0)
    names = {
        name: way.names
        for weights in found.weights.values()
        for name, wanted in weights.items()
        for way in wanted.ways[:1]
    }
    assert names["body.project_in.weight"]
    shapes = {
        "model.embed_tokens.weight": (50, 16),
        "lm_head.weight": (50, 16),
        "model.norm.weight": (16,),
    }
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{p}_proj.weight": (16, 16) for p in "qkvo"}
        shapes |= {f"{at}mlp.{p}_proj.weight": (24, 16) for p in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (16, 24)}
        shapes |= {f"{at}{n}_layernorm.weight": (16,) for n in ("input", "post_attention")}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    half = len(tensors) // 2
    save_file(dict(list(tensors.items())[:half]), tmp_path / "model-1.safetensors")
    save_file(dict(list(tensors.items())[half:]), tmp_path / "model-2.safetensors")
    load_weights(model, found.weights, tmp_path)
    slots = dict(model.slots())
    query = slots["layers.1.attention"].body.get_parameter("project_in.weight")[:16]
    assert torch.equal(query, tensors["model.layers.1.self_attn.q_proj.weight"])

    before = [parameter.clone() for parameter in model.parameters()]
    wrong = dict(tensors) | {"stray.weight": torch.zeros(1)}
    del wrong["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(SpecError) as raised:
        load_weights(model, found.weights, wrong)
    said = str(raised.value)
    assert "1 weight is missing: model.layers.0.mlp.up_proj.weight" in said
    assert "left over" in said and "stray.weight" in said
    with pytest.raises(SpecError, match="of another shape"):
        load_weights(model, found.weights, tensors | {"lm_head.weight": torch.zeros(3, 16)})
    load_weights(
        model, found.weights, tensors | {"a.inv_freq": torch.ones(1)}, unused=["*.inv_freq"]
    )
    assert all(map(torch.equal, before, model.parameters()))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(SpecError, match="cannot be read as weights"):
        load_weights(model, found.weights, tmp_path / "bad.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match="holds no weights"):
        load_weights(model, found.weights, tmp_path / "empty")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("A", [(1, "A")]),
        ("AAAA", [(4, "A")]),
        ("ABABAB", [(3, "AB")]),
        ("AAABAAAB", [(2, "AAAB")]),
        ("CAAAA", [(1, "C"), (4, "A")]),
        ("AAABAA", [(3, "A"), (1, "B"), (2, "A")]),
        ("ABC", [(1, "A"), (1, "B"), (1, "C")]),
    ],
)
def test_layers_that_repeat_become_blocks(pattern: str, expected: list[tuple[int, str]]) -> None:
    layers = [[Part(letter, weights={"w": take(str(i))})] for i, letter in enumerate(pattern)]
    found = [(len(block), "".join(p.use or "" for p in block[0])) for block in blocks(layers)]
    assert found == expected
    order = [p.weights["w"].ways[0].names[0] for b in blocks(layers) for r in b for p in r]
    assert order == [str(i) for i in range(len(pattern))]


def test_fields_keep_reading_past_a_wrong_value() -> None:
    fields = Fields({"a": 1.5, "b": True, "c": float("nan"), "d": {"e": []}}, {"a": 4})
    assert fields.whole("a") == 4 and fields.whole("b") == 1
    fields.number("c")
    assert fields.section("d").listed("e") == []
    assert fields.section("missing").text("x")
    with pytest.raises(SpecError) as raised:
        fields.finish()
    assert [p.path for p in raised.value.problems] == ["a", "b", "c", "missing.x"]


def test_a_megatron_pattern() -> None:
    architecture, notes = megatron.read("M-M*-M-E", width=32, sizes={"heads": 2}, vocab=40)
    kinds = [node.use for node in architecture.nodes]
    assert kinds == [
        "token_embedding",
        *["mamba2", "mlp", "mamba2", "attention", "mlp", "mamba2", "mlp", "moe"],
        "lm_head",
    ]
    assert notes == []
    assert count_parameters(architecture) > 0
    every = "".join(megatron.LETTERS)
    found, notes = megatron.read(every)
    assert [node.use for node in found.nodes] == [use for use, _ in megatron.LETTERS.values()]
    assert "sparse_attention" in {node.use for node in found.nodes} and notes == []
    long, notes = megatron.read("MMMM|*-MMMM|*-/M*")
    assert len(notes) == 2
    (group,) = long.nodes
    assert group.repeat == 2 and len(group.nodes) == 6


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("M-X*", "'X' at position 3"),
        ("m", "'m' at position 1"),
        ("", "has no layers"),
        ("|", "has no layers"),
        ("/M", "has no layers"),
        ("M" * 3000, "too many layers"),
    ],
)
def test_patterns_that_are_refused(pattern: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as raised:
        megatron.read(pattern)
    assert len(raised.value.problems) == 1


def test_sizes_that_do_not_fit_name_the_node() -> None:
    with pytest.raises(SpecError, match=r"nodes\[1\]\.heads"):
        megatron.read("-*", width=64, sizes={"heads": 5})


def test_config_content_is_not_changed() -> None:
    content = json.loads(json.dumps(LLAMA))
    read(content)
    assert content == LLAMA
