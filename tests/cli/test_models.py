"""Verbs about other people's models: what they write, what they print, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.architecture.document import load
from tests.cli.conftest import Said

Cli = Callable[..., Said]
LLAMA = {
    "model_type": "llama",
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    return file


def test_a_config_becomes_an_architecture(cli: Cli, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "llama.yaml"
    said = cli("import", "hf", str(config), "-o", str(out), "--json")
    assert said.code == 0
    assert said.json["architecture"] == str(out)
    checked = cli("validate", str(out), "--json").json
    assert checked["ok"] and checked["params"] == said.json["params"]
    assert checked["fingerprint"] == said.json["fingerprint"]
    assert load(out).nodes[1].repeat == 8
    assert cli("import", "hf", str(config.parent), "--output", str(out)).out.startswith("wrote ")


def test_what_cannot_be_read_ends_with_two(cli: Cli, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.yaml"
    config.write_text(json.dumps(LLAMA | {"moons": 3, "hidden_act": "tanh"}))
    said = cli("import", "hf", str(config), "-o", str(out), "--json")
    assert said.code == 2
    assert {error["path"] for error in said.json["errors"]} == {"moons", "hidden_act"}
    assert not out.exists()
    config.write_text(json.dumps(LLAMA | {"moons": 3}))
    said = cli("import", "hf", str(config), "-o", str(out), "--ignore", "moons", "--json")
    assert said.code == 0 and said.json["notes"] == ["moons was left out, as asked"]
    config.write_text(json.dumps({"model_type": "nothing"}))
    said = cli("import", "hf", str(config), "-o", str(out), "--json")
    assert said.code == 2 and "llama" in said.json["errors"][0]["expected"]


def test_a_pattern_becomes_an_architecture(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "hybrid.yaml"
    said = cli("import", "megatron", "M-M*-|M-E/M*", "-o", str(out), "--width", "32", "--json")
    assert said.code == 0 and len(said.json["notes"]) == 2
    assert load(out).width == 32
    assert cli("validate", str(out), "--task", "python_bytes").code == 0
    said = cli("import", "megatron", "M-Q", "-o", str(out), "--json")
    assert said.code == 2
    (error,) = said.json["errors"]
    assert "'Q' at position 3" in error["message"] and "Mamba-2" in error["expected"]


def test_a_large_model_shrinks_to_one_that_trains(cli: Cli, config: Path, tmp_path: Path) -> None:
    large, small = tmp_path / "large.yaml", tmp_path / "small.yaml"
    cli("import", "hf", str(config), "-o", str(large))
    said = cli("shrink", str(large), "-o", str(small), "--width", "32", "--repeat", "3", "--json")
    assert said.code == 0 and said.json["params"] < 100_000
    (group,) = load(small).nodes
    assert group.repeat == 3
    assert group.nodes[0].params["heads"] == 4 and group.nodes[0].params["kv_heads"] == 2
    for task in ("python_bytes", "mqar"):
        assert cli("validate", str(small), "--task", task, "--json").json["ok"]


def test_presets_shrink(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "small.yaml"
    for name in ("jamba_mini", "hymba_mini"):
        said = cli("shrink", name, "-o", str(out), "--width", "16", "--repeat", "1", "--json")
        assert said.code == 0, said.err


def test_what_can_be_imported_and_exported_is_listed(cli: Cli) -> None:
    listed = cli("import", "--json").json
    assert "llama" in listed["hf"] and listed["megatron"]["M"] == "mamba2"
    assert "Mamba-2" in cli("import").out
    assert "pytorch" in cli("export", "--json").json
    assert "torch" in cli("export").out


def test_an_exported_file_runs_alone(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "model.py"
    said = cli(
        "export", "pytorch", "jamba_mini", "-o", str(out), "--task", "python_bytes", "--json"
    )
    assert said.code == 0 and said.json["path"] == str(out)
    assert "hybridlab" not in out.read_text()
    done = subprocess.run(
        [sys.executable, "-I", str(out)], capture_output=True, text=True, check=True, timeout=120
    )
    params = cli("validate", "jamba_mini", "--task", "python_bytes", "--json").json["params"]
    assert done.stdout.strip() == f"{params:,} parameters"


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "hf", "nothing.json", "-o", "x.yaml"),
        ("import", "hf", "nothing.json"),
        ("import", "nothing"),
        ("shrink", "jamba_mini", "-o", "/nowhere/x.yaml"),
        ("shrink", "jamba_mini", "-o", "x.yaml", "--width", "1"),
        ("export", "pytorch", "nothing", "-o", "x.py"),
    ],
)
def test_bad_input_ends_with_two(
    cli: Cli, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli(*arguments, "--json")
    assert said.code == 2
    assert said.json["errors"][0]["message"]


def test_a_design_is_exported_for_transformers(cli: Cli, config: Path, tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 50}
    config.write_text(json.dumps({**LLAMA, **small, "eos_token_id": 3}))
    file, out = tmp_path / "llama.yaml", tmp_path / "folder"
    assert cli("import", "hf", str(config), "-o", str(file)).code == 0
    told = ("export", "hf", str(file), "-o", str(out), "--like", str(config), "--json")
    said = cli(*told)
    assert said.code == 0 and said.json["family"] == "llama" and said.json["checked"]
    assert said.json["folder"] == str(out) and said.json["largest_difference"] < 1e-4
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 3
    assert cli(*told).json["errors"][0]["message"] == "is there already"
    refused = cli(
        "export", "hf", str(file), "-o", str(tmp_path / "x"), "--family", "mamba", "--json"
    )
    assert refused.code == 2 and refused.json["errors"][0]["path"] == "layers.0.attention"
    assert not (tmp_path / "x").exists()


def test_a_design_is_exported_as_onnx(cli: Cli, tmp_path: Path) -> None:
    file, out = tmp_path / "small.yaml", tmp_path / "small.onnx"
    nodes = "nodes:\n  - {use: token_embedding, vocab: 9}\n  - {use: swiglu}\n  - {use: lm_head, vocab: 9}\n"
    file.write_text(f"name: small\nwidth: 8\n{nodes}")
    said = cli("export", "onnx", str(file), "-o", str(out), "--json")
    assert said.code == 0 and out.exists()
    assert said.json["opset"] == 20 and said.json["dynamic"] == ["batch", "length"]
    assert said.json["checked"] and said.json["largest_difference"] < 1e-5
    file.write_text(file.read_text().replace("swiglu", "s4d"))
    said = cli("export", "onnx", str(file), "-o", str(tmp_path / "no.onnx"), "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "s4d"
    assert not (tmp_path / "no.onnx").exists()
