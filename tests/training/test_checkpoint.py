"""Checkpoints under damage, full disks and kills between two writes."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hybridlab.errors import RunError
from hybridlab.training import checkpoint, weights
from hybridlab.training.checkpoint import MODEL, OPTIMISER, STATE, latest, load, save
from hybridlab.training.weights import (
    load_weights,
    read_tensors,
    weights_sha256,
    write_tensors,
    write_weights,
)


def _write(folder: Path, step: int, keep: int = 2) -> Path:
    generator = torch.Generator().manual_seed(step)
    model = {"a": torch.randn(5, 3, generator=generator), "b": torch.arange(4).to(torch.bfloat16)}
    optimiser = {"0.exp_avg": torch.full((5, 3), float(step)), "random.cpu": torch.get_rng_state()}
    return save(folder, step, model, optimiser, {"progress": {"step": step}}, keep=keep)


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "c", 100)
    assert path.name == "step-00000100"
    assert sorted(item.name for item in path.iterdir()) == sorted([MODEL, OPTIMISER, STATE])
    found = load(path)
    assert found.step == 100 and found.content == {"progress": {"step": 100}}
    model = found.model()
    assert model["b"].dtype is torch.bfloat16 and model["b"].tolist() == [0, 1, 2, 3]
    assert torch.equal(model["a"], torch.randn(5, 3, generator=torch.Generator().manual_seed(100)))
    assert torch.equal(found.optimiser()["random.cpu"], torch.get_rng_state())


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30, 4):
        _write(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000030"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest(tmp_path) is None and latest(tmp_path / "absent") is None


def _flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(bytes(content))


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "first byte": lambda path: _flip(path, 0.0),
    "middle": lambda path: _flip(path, 0.5),
    "last byte": lambda path: _flip(path, 1.0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
}


@pytest.mark.parametrize("name", [MODEL, OPTIMISER, STATE])
@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_a_damaged_checkpoint_is_seen_and_the_one_before_is_taken(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, 1)
    newest = _write(tmp_path, 2)
    DAMAGE[damage](newest / name)
    with pytest.raises(RunError, match=r"damaged|cannot be read"):
        load(newest)
    found = latest(tmp_path)
    assert found is not None and found.step == 1
    assert "step 2 is passed over" in caplog.text


def test_a_changed_number_in_the_state_is_seen(tmp_path: Path) -> None:
    path = _write(tmp_path, 2) / STATE
    path.write_text(path.read_text().replace('\\"step\\": 2', '\\"step\\": 9'))
    with pytest.raises(RunError, match="is damaged"):
        load(path.parent)


def test_a_newer_format_is_told_apart_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    path = _write(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"another format \(expected 1, got 99\)"):
        load(path)


def test_what_a_kill_left_behind_is_not_a_checkpoint_and_is_cleaned(tmp_path: Path) -> None:
    good = _write(tmp_path, 1)
    for name in (".new-00000002-17", ".old-step-00000000-17"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MODEL).write_bytes(good.joinpath(MODEL).read_bytes())
    (tmp_path / "step-2").mkdir()
    found = latest(tmp_path)
    assert found is not None and found.step == 1
    checkpoint.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-2"]


def test_a_checkpoint_that_is_there_already_is_replaced(tmp_path: Path) -> None:
    path = _write(tmp_path, 3)
    _flip(path / MODEL, 0.9)
    _write(tmp_path, 3)
    found = latest(tmp_path)
    assert found is not None and found.step == 3
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("call", range(5))
def test_a_disk_that_fills_up_at_any_write_spares_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    _write(tmp_path, 1)
    real, calls = os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(weights.os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full") as caught:
        _write(tmp_path, 2)
    monkeypatch.undo()
    assert "free some space" in str(caught.value)
    found = latest(tmp_path)
    assert found is not None
    assert found.step == (1 if call < 4 else 2), "the fifth write is the folder's, after the rename"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".new")]
    assert _write(tmp_path, 2).is_dir(), "with room again the next one works"


def test_a_real_limit_on_file_size_is_told_as_a_full_disk(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        import torch
        from hybridlab.errors import RunError
        from hybridlab.training.checkpoint import latest, save
        folder = Path(sys.argv[1])
        small, large = {"a": torch.zeros(10)}, {"a": torch.zeros(1_000_000)}
        save(folder, 1, small, small, {}, keep=2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save(folder, 2, large, small, {}, keep=2)
        except RunError as error:
            print(error)
        print(latest(folder).step, sorted(path.name for path in folder.iterdir()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    message, state = done.stdout.strip().splitlines()
    assert "step-00000002: cannot be written: the disk is full" in message
    assert state == "1 ['step-00000001']"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        _write(tmp_path / "file", 1)


def test_shared_tensors_are_stored_once_and_come_back_shared_by_name(tmp_path: Path) -> None:
    table = torch.randn(50, 8)
    write_tensors({"embedding": table, "head": table, "part": torch.zeros(0)}, tmp_path / "w")
    assert (tmp_path / "w").stat().st_size < 2 * table.nbytes
    read = read_tensors(tmp_path / "w")
    assert set(read) == {"embedding", "head", "part"} and torch.equal(read["head"], table)


class Tied(nn.Module):
    """Two names for one weight, and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.turned = nn.Parameter(torch.randn(2, 5).T)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_tied_and_transposed_weights_survive(tmp_path: Path) -> None:
    first, second = Tied(), Tied()
    write_weights(first.state_dict(), tmp_path / "w.safetensors", {"step": "3"})
    load_weights(second, read_tensors(tmp_path / "w.safetensors"), tmp_path)
    assert weights_sha256(first) == weights_sha256(second)
    assert second.one.weight is second.two.weight


def test_the_digest_sees_names_shapes_dtypes_and_every_bit() -> None:
    model = nn.Linear(4, 2)
    digests = {weights_sha256(model)}
    with torch.no_grad():
        model.weight.view(torch.int32)[1, 3] ^= 1
    digests.add(weights_sha256(model))
    digests.add(weights_sha256(model.double()))
    digests.add(weights_sha256(nn.Sequential(model)))
    assert len(digests) == 4


def test_optimiser_states_come_back_exactly(tmp_path: Path) -> None:
    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        model(torch.ones(2, 4)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    torch.manual_seed(0)
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    step(model, optimiser)
    tensors, plain = checkpoint.pack_optimiser(optimiser)
    plain = json.loads(json.dumps(plain))
    restored = torch.optim.AdamW(other.parameters(), lr=0.7, fused=True)
    other.load_state_dict(model.state_dict())
    checkpoint.unpack_optimiser(
        restored, {name: value.clone() for name, value in tensors.items()}, plain
    )
    step(model, optimiser)
    step(other, restored)
    assert weights_sha256(model) == weights_sha256(other)
    with pytest.raises(RunError, match="does not fit the model"):
        checkpoint.unpack_optimiser(
            torch.optim.AdamW([nn.Parameter(torch.zeros(1))]), tensors, plain
        )


def test_files_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"a": torch.zeros(1)}))
    for path in (tmp_path / "w", tmp_path / "absent"):
        with pytest.raises(RunError, match="cannot be read as weights"):
            read_tensors(path)
