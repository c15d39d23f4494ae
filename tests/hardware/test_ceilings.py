"""Ceilings: measured in seconds, kept for this machine only, and never below what a program then reaches by far."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from hybridlab.errors import DeviceError
from hybridlab.hardware.caches import cpu_caches
from hybridlab.hardware.ceilings import Ceilings, ceilings, load, measure


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def measured(folder: Path) -> Ceilings:
    return ceilings(folder, "cpu")


def test_measuring_is_quick_and_says_with_how_many_threads(measured: Ceilings) -> None:
    assert measured.seconds < 10
    assert measured.threads == torch.get_num_threads()
    assert measured.torch_version == torch.__version__
    told = {**measured.flops_per_s, **measured.not_measured}
    assert set(told) == {"float32", "bfloat16", "float16", "int8"}
    assert not set(measured.flops_per_s) & set(measured.not_measured)
    assert "float32" in measured.flops_per_s


def test_figures_agree_with_a_plain_stopwatch(measured: Ceilings) -> None:
    a = torch.randn(512, 512)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    reached = 2 * 512**3 / min(times)
    assert 0.3 < reached / measured.flops_per_s["float32"] < 3


def test_working_sets_grow_and_bandwidths_are_of_this_world(measured: Ceilings) -> None:
    sizes = [item.working_set_bytes for item in measured.bandwidths]
    assert sizes == sorted(sizes)
    assert all(1e8 < item.bytes_per_s < 1e13 for item in measured.bandwidths)
    assert measured.bytes_per_s == measured.bandwidths[-1].bytes_per_s
    assert 1e-8 < measured.call_s < 1e-2
    assert measured.bandwidths[-1].level == "memory"
    told = {cache.level: cache.size_bytes for cache in cpu_caches()}
    for item in measured.bandwidths[:-1]:
        assert item.level in told or not told
        assert item.working_set_bytes < told.get(item.level, 1 << 60)


def test_a_cache_is_faster_than_memory(measured: Ceilings) -> None:
    speeds = {item.level: item.bytes_per_s for item in measured.bandwidths}
    best = max(item.bytes_per_s for item in measured.bandwidths)
    assert best > 1.2 * speeds["memory"], speeds


def test_a_precision_that_torch_cannot_multiply_is_told_and_not_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*given: object) -> None:
        raise RuntimeError("not implemented for 'Char'\nand more")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    found = measure("cpu", seconds_each=0.001)
    assert "int8" not in found.flops_per_s
    assert found.not_measured == {
        "int8": "torch cannot multiply it on this device: not implemented for 'Char'"
    }


def test_what_was_measured_in_another_form_is_measured_anew(
    folder: Path, measured: Ceilings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(folder, "cpu") == measured
    monkeypatch.setattr("hybridlab.hardware.ceilings._FORM", "another")
    assert load(folder, "cpu") is None


def test_they_are_kept_and_read_again(folder: Path, measured: Ceilings) -> None:
    assert load(folder, "cpu") == measured
    assert ceilings(folder, "cpu") is not measured
    assert ceilings(folder, "cpu").measured_at == measured.measured_at


def test_another_number_of_threads_is_another_measurement(folder: Path, measured: Ceilings) -> None:
    assert load(folder, "cpu", threads=measured.threads + 1) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": {"device": "cpu"}}'])
def test_a_damaged_file_holds_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "ceilings.json").write_text(content)
    assert load(tmp_path, "cpu") is None


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError):
        measure("cuda:99")
