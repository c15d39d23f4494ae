"""Peaks that makers publish for their accelerators: what to hold a measured ceiling against, never one itself.

All are dense (without structured sparsity), at boost clock, matrix units included. The figures are the data sheets'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LABEL = "published by the maker, not measured here"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
_AMPERE = (
    "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
)
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_AMD = "https://www.amd.com/en/products/accelerators/instinct/"


@dataclass(frozen=True)
class PublishedPeak:
    """One accelerator's published peaks.

    ``words`` are what the driver's name for it holds; ``tera_per_s`` are 10¹² operations per second by precision
    (float32 outside the matrix units, integers for int8); ``gb_per_s`` is 10⁹ bytes per second of its own memory, of
    which there are ``memory_gb`` times 10⁹ bytes, the least where it is sold with several sizes.
    """

    title: str
    words: tuple[str, ...]
    tera_per_s: tuple[tuple[str, float], ...]
    gb_per_s: float
    memory_gb: float
    source: str

    @property
    def memory_bytes(self) -> int:
        """Its own memory in bytes, as published."""
        return round(self.memory_gb * 1e9)

    def as_dict(self) -> dict[str, Any]:
        """Return the peaks as plain JSON in operations and bytes per second, with the label that belongs to them."""
        return {
            "title": self.title,
            "label": LABEL,
            "flops_per_s": {name: value * 1e12 for name, value in self.tera_per_s},
            "bytes_per_s": self.gb_per_s * 1e9,
            "memory_bytes": self.memory_bytes,
            "source": self.source,
        }


def _peak(
    title: str,
    words: str,
    memory_gb: float,
    float32: float,
    half: float,
    int8: float,
    gb_per_s: float,
    source: str,
    *,
    bfloat16: bool = True,
    tf32: float | None = None,
) -> PublishedPeak:
    figures = [("float32", float32), ("float16", half)]
    figures += [("bfloat16", half)] if bfloat16 else []
    figures += [("tf32", tf32)] if tf32 is not None else []
    figures += [("int8", int8)] if int8 else []
    return PublishedPeak(title, tuple(words.split()), tuple(figures), gb_per_s, memory_gb, source)


PUBLISHED = (
    _peak("NVIDIA H200 SXM", "H200", 141, 67, 989, 1979, 4800, _NVIDIA + "h200/", tf32=494),
    _peak("NVIDIA H100 PCIe", "H100 PCIe", 80, 51, 756, 1513, 2000, _NVIDIA + "h100/", tf32=378),
    _peak("NVIDIA H100 SXM", "H100", 80, 67, 989, 1979, 3350, _NVIDIA + "h100/", tf32=494),
    _peak("NVIDIA A100 PCIe 80 GB", "A100 80GB PCIe", 80, 19.5, 312, 624, 1935, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA A100 SXM 80 GB", "A100 80GB", 80, 19.5, 312, 624, 2039, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA A100 40 GB", "A100", 40, 19.5, 312, 624, 1555, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA L40S", "L40S", 48, 91.6, 362, 733, 864, _NVIDIA + "l40s/", tf32=183),
    _peak("NVIDIA L4", "L4", 24, 30.3, 121, 242, 300, _NVIDIA + "l4/", tf32=60),
    _peak("NVIDIA A10", "A10", 24, 31.2, 125, 250, 600, _NVIDIA + "products/a10-gpu/", tf32=62.5),
    _peak("NVIDIA T4", "T4", 16, 8.1, 65, 130, 320, _NVIDIA + "tesla-t4/", bfloat16=False),
    _peak("NVIDIA V100 SXM2", "V100", 16, 15.7, 125, 0, 900, _NVIDIA + "v100/", bfloat16=False),
    _peak("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 82.6, 165.2, 660.6, 1008, _ADA, tf32=82.6),
    _peak("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 35.6, 71, 284, 936, _AMPERE, tf32=35.6),
    _peak("AMD Instinct MI300X", "MI300X", 192, 163.4, 1307.4, 2614.9, 5300, _AMD + "mi300/mi300x.html", tf32=653.7),
    _peak("AMD Instinct MI250X", "MI250X", 128, 47.9, 383, 383, 3277, _AMD + "mi200/mi250x.html"),
)  # fmt: skip
"""The more particular name stands before the more general one."""


def published(title: str) -> PublishedPeak | None:
    """Return the published peaks of the accelerator that a driver calls by this name; None where the table lacks it."""
    words = title.upper().replace("-", " ").split()
    return next(
        (peak for peak in PUBLISHED if all(word.upper() in words for word in peak.words)), None
    )


def table() -> list[dict[str, Any]]:
    """Return all published peaks as plain JSON."""
    return [peak.as_dict() for peak in PUBLISHED]
