"""Devices: what is there can be chosen, what is not is refused with the list of what is."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from hybridlab.errors import DeviceError
from hybridlab.hardware import devices as room
from hybridlab.hardware.devices import choose, describe, devices, free_bytes


def test_every_listed_device_can_be_chosen_and_computes() -> None:
    for device in devices():
        x = torch.ones(3, device=choose(device.name))
        assert x.sum().item() == 3
        assert device.title


def test_the_cpu_is_last_and_tells_its_memory() -> None:
    cpu = devices()[-1]
    assert cpu.name == "cpu"
    assert cpu.memory_bytes and cpu.free_bytes
    assert 0 < cpu.free_bytes <= cpu.memory_bytes <= psutil.virtual_memory().total
    assert "free" in describe(cpu)


def test_auto_is_the_accelerator_or_else_the_cpu() -> None:
    assert choose("auto").type == (
        torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:0:1", "cuda:-1", "../etc", "x" * 500])
def test_what_is_not_there_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(DeviceError) as raised:
        choose(name)
    (problem,) = raised.value.problems
    assert problem.path == "device"
    assert "cpu" in problem.expected
    assert len(problem.sentence()) < 300


def test_free_memory_shrinks_by_what_is_taken() -> None:
    size, shrunk = 256 * 1024**2, []
    before = free_bytes("cpu")
    assert before is not None
    # All that is taken is kept: what was freed a moment ago lies in lists of the cores, which Linux does not count as
    # free and gives out again first. Meanwhile other processes take and give memory back too.
    with ExitStack() as held:
        for _ in range(12):
            # From the system itself: a tensor might lie in what this process freed before and still holds.
            taken = held.enter_context(mmap.mmap(-1, size))
            np.frombuffer(taken, np.uint8)[:: mmap.PAGESIZE] = 1
            after = free_bytes("cpu")
            assert after is not None
            shrunk.append((before - after) / size)
            if shrunk[-1] > 0.5:
                break
            time.sleep(0.2)
    assert max(shrunk) > 0.5, shrunk


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(str(100 * 1024**2))
    (tmp_path / "memory.current").write_text(str(60 * 1024**2))
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    assert room.host_memory_bytes() == 100 * 1024**2
    assert room.host_free_bytes() == 40 * 1024**2


def test_files_that_a_container_has_read_count_as_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(str(100 * 1024**2))
    (tmp_path / "memory.current").write_text(str(99 * 1024**2))
    stat = {
        "anon": 20,
        "inactive_file": 50,
        "active_file": 20,
        "slab_reclaimable": 4,
        "slab_unreclaimable": 5,
    }
    (tmp_path / "memory.stat").write_text(
        "".join(f"{name} {mib * 1024**2}\n" for name, mib in stat.items())
    )
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    assert room.host_free_bytes() == (100 - 20 - 5) * 1024**2


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, hybridlab.hardware.devices, hybridlab.hardware.ceilings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
def test_an_accelerator_tells_its_memory() -> None:
    device = devices()[0]
    assert device.name != "cpu"
    assert device.memory_bytes and device.free_bytes
