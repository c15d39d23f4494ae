"""Weights from files: what transformers saved to a folder, into a model, a training, a text and the command line."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.generate import generate
from hybridlab.architecture.importers.huggingface import read_file
from hybridlab.cli import run
from hybridlab.errors import HybridLabError
from hybridlab.tasks.registry import task
from hybridlab.training.imported import imported
from hybridlab.training.loop import train
from hybridlab.training.spec import make
from hybridlab.workflows.weighted import weighted

TASK = {"pairs": 2, "length": 16, "vocab": 32}
SIZES = {
    "vocab_size": TASK["vocab"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny Llama of random weights, as a folder that transformers saved, and the model itself."""
    transformers = importlib.import_module("transformers")
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def folder(published: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of it, to be harmed."""
    return Path(shutil.copytree(published[0], tmp_path / "llama"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Return a function that runs a command line and gives its exit code and JSON."""

    def say(*arguments: object) -> tuple[int, Any]:
        code = run([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, json.loads(out.strip().splitlines()[-1])

    return say


TOKENS = torch.randint(TASK["vocab"], (2, 11), generator=torch.Generator().manual_seed(0))


def test_a_published_folder_computes_writes_and_learns_on(
    published: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, theirs = published
    model = weighted(weights=folder)
    with torch.no_grad():
        wanted = theirs(TOKENS).logits
        torch.testing.assert_close(model(TOKENS), wanted, rtol=1e-4, atol=1e-4)
    text = theirs.generate(TOKENS, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert torch.equal(generate(model, TOKENS, 6), text[:, TOKENS.shape[1] :])
    spec = make({"task": "mqar", "task_params": TASK, "steps": 2, "batch": 4, "device": "cpu"})
    table = "root.tokens.body.table.weight"
    before = model.state_dict()[table].clone()
    result = train(model, task("mqar", **TASK), spec, folder=tmp_path / "run")
    after = load_file(tmp_path / "run" / "weights.safetensors")[table]
    assert result.steps == 2 and 0 < float((after - before).abs().max()) < 0.05


def test_a_design_of_other_names_takes_the_weights_too(published: tuple[Path, Any]) -> None:
    folder, theirs = published
    text = dump(read_file(folder / "config.json").architecture)
    head, rest = text.split("  - id: layers\n    repeat: 2\n    nodes:\n")
    block, tail = rest.split("  - {id: final_norm")
    flat = "".join(f"{line.removeprefix('    ')}\n" for line in block.splitlines())
    unrolled = f"{head}{flat}{flat}  - {{id: last{tail}".replace("id: tokens", "id: table")
    design = loads(unrolled)
    model = weighted(design, weights=folder)
    assert model.architecture.fingerprint != weighted(weights=folder).architecture.fingerprint
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), theirs(TOKENS).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(HybridLabError, match="kv_heads") as caught:
        weighted(loads(unrolled.replace("kv_heads: 2", "kv_heads: 4")), weights=folder)
    assert "another architecture" in str(caught.value)


def test_the_command_line_brings_weights_along(
    published: tuple[Path, Any], tmp_path: Path, cli: Callable[..., tuple[int, Any]]
) -> None:
    folder, theirs = published
    design, own = tmp_path / "llama.yaml", tmp_path / "llama.safetensors"
    code, said = cli("import", "hf", folder, "-o", design, "--weights", own)
    assert code == 0 and said["architecture"] == str(design)
    offered = [one for one in imported() if one.weights == str(own)]
    assert [one.architecture for one in offered] == [str(design)], "it may teach on the Train page"
    for name, weights in (("again", own), ("straight", folder)):
        out = tmp_path / name
        code, said = cli("export", "hf", design, "--weights", weights, "-o", out)
        assert code == 0 and said["checked"], said
        kept = load_file(out / "model.safetensors")
        assert kept.keys() == theirs.state_dict().keys()
        assert all(torch.equal(kept[key], given) for key, given in theirs.state_dict().items())


def cut(folder: Path) -> None:
    """Lose the second half of the file."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def narrow(folder: Path) -> None:
    """Lose half the rows of one weight, and another weight altogether."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:16].clone()
    save_file(tensors, file)


def lose(folder: Path) -> None:
    """Lose a weight."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file)


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


def pickled(folder: Path) -> None:
    """Hold a pickle in place of safetensors."""
    (folder / "model.safetensors").unlink()
    torch.save({"trap": Trap()}, folder / "pytorch_model.bin")


def disguised(folder: Path) -> None:
    """Hold a pickle that is called safetensors."""
    torch.save({"trap": Trap()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "file", "words"),
    [
        (cut, "model.safetensors", ("cannot be read as weights", "copy it again")),
        (narrow, "weights", ("of another shape: lm_head.weight", "(16, 16) instead of (32, 16)")),
        (lose, "weights", ("1 weight is missing: model.norm.weight",)),
        (pickled, "pytorch_model.bin", ("is a pickle", "save_pretrained")),
        (disguised, "model.safetensors", ("is a pickle", "save_pretrained")),
    ],
)
def test_bad_files_give_their_sentence(
    harm: Callable[[Path], None],
    file: str,
    words: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., tuple[int, Any]],
) -> None:
    monkeypatch.chdir(tmp_path)
    harm(folder)
    with pytest.raises(HybridLabError) as caught:
        weighted(weights=folder)
    (problem,) = caught.value.problems
    assert problem.path.endswith(file) and all(word in problem.sentence() for word in words)
    out, own = tmp_path / "out.yaml", tmp_path / "own.safetensors"
    code, said = cli("import", "hf", folder, "-o", out, "--weights", own)
    assert code == 2 and said["errors"] == [problem.as_dict()]
    assert not out.exists() and not own.exists() and not (tmp_path / "sprung").exists()


def test_a_file_of_ones_own_is_never_unpickled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled(folder)
    design = read_file(folder / "config.json").architecture
    with pytest.raises(HybridLabError, match="is a pickle"):
        weighted(design, weights=folder / "pytorch_model.bin")
    assert not (tmp_path / "sprung").exists()
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(HybridLabError, match="another architecture"):
        weighted(design, weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize("count", range(1, 40))
def test_no_safetensors_file_is_taken_for_a_pickle(count: int, tmp_path: Path) -> None:
    from hybridlab.architecture.importers.pickles import refused

    file = tmp_path / "any.safetensors"
    save_file({f"{'x' * count}{k}": torch.zeros(1) for k in range(2)}, file)
    assert refused(file) is None
    file.write_bytes(b"\x80\x02" + bytes(6) + b'{"a":')  # a header of 640 bytes
    assert refused(file) is None
    file.write_bytes(b"\x80\x02}q\x00.")
    assert refused(file) is not None
