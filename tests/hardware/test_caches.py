"""Cache sizes as Linux tells them, the working sets that follow, and the table of published peaks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridlab.hardware import caches
from hybridlab.hardware.caches import Cache, cpu_caches, working_sets
from hybridlab.hardware.published import PUBLISHED, published


def system(folder: Path, *entries: tuple[str, str, str]) -> Path:
    for index, entry in enumerate(entries):
        place = folder / f"index{index}"
        place.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), entry, strict=True):
            (place / name).write_text(text + "\n")
    return folder


def test_data_caches_are_read_and_instruction_caches_left_out(tmp_path: Path) -> None:
    place = system(
        tmp_path,
        ("3", "Unified", "105M"),
        ("1", "Data", "48K"),
        ("1", "Instruction", "32K"),
        ("2", "Unified", "2048K"),
    )
    expected = (Cache("L1", 48 << 10), Cache("L2", 2 << 20), Cache("L3", 105 << 20))
    assert cpu_caches(place) == expected


@pytest.mark.parametrize("size", ["", "lots", "-3K", "4T"])
def test_what_is_not_a_size_is_no_cache(tmp_path: Path, size: str) -> None:
    assert cpu_caches(system(tmp_path, ("1", "Data", size))) == ()
    assert cpu_caches(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("l3", "memory"), [(8 << 20, 256 << 20), (100 << 20, 400 << 20), (1 << 30, 2 << 30)]
)
def test_working_sets_lie_in_their_levels(
    monkeypatch: pytest.MonkeyPatch, l3: int, memory: int
) -> None:
    known = (Cache("L1", 32 << 10), Cache("L3", l3))
    monkeypatch.setattr(caches, "cpu_caches", lambda: known)
    monkeypatch.setattr(caches, "free_bytes", lambda device: 1 << 40)
    sets = working_sets(torch.device("cpu"))
    assert sets == (("L1", 16 << 10), ("L3", l3 // 2), ("memory", memory))
    assert memory >= 2 * l3, "far beyond the last cache"
    monkeypatch.setattr(caches, "free_bytes", lambda device: 1 << 20)
    assert working_sets(torch.device("cpu"))[-1] == ("memory", 1 << 18)


@pytest.mark.parametrize(
    ("driver", "title"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM 80 GB"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40 GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 PCIe 80 GB"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("Tesla T4", "NVIDIA T4"),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA A100-PG509-200", "NVIDIA A100 40 GB"),
        ("Tesla V100-DGXS-32GB", "NVIDIA V100 SXM2"),
        ("Tesla V100-PCIE-16GB", "NVIDIA V100 PCIe"),
        ("Tesla V100S-PCIE-32GB", None),
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4080 SUPER", None),
        ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada"),
        ("Quadro RTX 6000", None),
        ("AMD Instinct MI250X/MI250", "AMD Instinct MI250X, one of its two dies"),
        ("AMD Instinct MI300X", "AMD Instinct MI300X"),
        ("Intel(R) Xeon(R)", None),
    ],
)
def test_published_peaks_are_found_by_the_drivers_name(driver: str, title: str | None) -> None:
    found = published(driver)
    assert (found.title if found else None) == title


def test_published_peaks_are_labelled_and_have_sources() -> None:
    assert len({peak.title for peak in PUBLISHED}) == len(PUBLISHED)
    for peak in PUBLISHED:
        told = peak.as_dict()
        assert told["label"] == "published by the maker, not measured here"
        assert told["source"].startswith("https://")
        assert 1e12 < told["flops_per_s"]["float32"] <= told["flops_per_s"]["float16"] < 1e16
        assert 1e11 < told["bytes_per_s"] < 1e13


def test_each_published_peak_is_found_by_its_own_words() -> None:
    """A row that stands below a more general one would never be found."""
    for peak in PUBLISHED:
        assert published(" ".join(peak.words)) == peak
