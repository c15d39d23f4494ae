"""Peaks that makers publish for their accelerators: what to hold a measured ceiling against, never one itself.

All are dense, at boost clock, matrix units included, half precision added up in float32. The figures are the data
sheets'; where a sheet has only those with structured sparsity, they are halved. What torch calls one device counts: an
MI250X is two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LABEL = "published by the maker, not measured here"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
_BLACKWELL = "https://resources.nvidia.com/en-us-blackwell-architecture"
_AMPERE = (
    "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
)
_A40 = "https://images.nvidia.com/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_ADA_PRO = (
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/technologies/"
    "NVIDIA-ADA-GPU-PROVIZ-Architecture-Whitepaper_1.1.pdf"
)
_RTX_50 = (
    "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/"
    "nvidia-rtx-blackwell-gpu-architecture.pdf"
)
_AMD = "https://www.amd.com/en/products/accelerators/instinct/"
_MI250X = _AMD + "mi200/mi250x.html"
_VARIANTS = frozenset(["D", "LAPTOP", "MAX", "MIG", "MOBILE", "NVL", "SUPER", "TI"])
"""Words in a driver's name that make it another card than the one without them."""


@dataclass(frozen=True)
class PublishedPeak:
    """One accelerator's published peaks.

    ``words`` are what the driver's name for it holds, beside which it holds no word of a variant; ``tera_per_s`` are
    10¹² operations per second by precision (float32 outside the matrix units, integers for int8); ``gb_per_s`` is 10⁹
    bytes per second of its own memory, of which there are ``memory_gb`` times 10⁹ bytes: the least where it is sold
    with several sizes.
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
    _peak("NVIDIA B200 (HGX)", "B200", 180, 80, 2250, 4500, 8000, _BLACKWELL, tf32=1100),
    _peak("NVIDIA H200 NVL", "H200 NVL", 141, 60, 835.5, 1670.5, 4800, _NVIDIA + "h200/", tf32=417.5),
    _peak("NVIDIA H200 SXM", "H200", 141, 67, 989, 1979, 4800, _NVIDIA + "h200/", tf32=494),
    _peak("NVIDIA H100 NVL", "H100 NVL", 94, 60, 835.5, 1670.5, 3938, _NVIDIA + "h100/", tf32=417.5),
    _peak("NVIDIA H100 PCIe", "H100 PCIe", 80, 51, 756, 1513, 2000, _NVIDIA + "h100/", tf32=378),
    _peak("NVIDIA H100 SXM", "H100", 80, 67, 989, 1979, 3350, _NVIDIA + "h100/", tf32=494),
    _peak("NVIDIA A100 PCIe 80 GB", "A100 80GB PCIe", 80, 19.5, 312, 624, 1935, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA A100 SXM 80 GB", "A100 80GB", 80, 19.5, 312, 624, 2039, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA A100 40 GB", "A100", 40, 19.5, 312, 624, 1555, _NVIDIA + "a100/", tf32=156),
    _peak("NVIDIA L40S", "L40S", 48, 91.6, 362, 733, 864, _NVIDIA + "l40s/", tf32=183),
    _peak("NVIDIA L4", "L4", 24, 30.3, 121, 242, 300, _NVIDIA + "l4/", tf32=60),
    _peak("NVIDIA A40", "A40", 48, 37.4, 149.7, 299.3, 696, _A40, tf32=74.8),
    _peak("NVIDIA A10", "A10", 24, 31.2, 125, 250, 600, _NVIDIA + "products/a10-gpu/", tf32=62.5),
    _peak("NVIDIA T4", "T4", 16, 8.1, 65, 130, 320, _NVIDIA + "tesla-t4/", bfloat16=False),
    _peak("NVIDIA V100 PCIe", "V100 PCIe", 16, 14, 112, 0, 900, _NVIDIA + "v100/", bfloat16=False),
    _peak("NVIDIA V100 SXM2", "V100", 16, 15.7, 125, 0, 900, _NVIDIA + "v100/", bfloat16=False),
    _peak("NVIDIA RTX 6000 Ada", "RTX 6000 Ada", 48, 91.1, 364.2, 728.5, 960, _ADA_PRO, tf32=182.1),
    _peak("NVIDIA RTX A6000", "RTX A6000", 48, 38.7, 154.8, 309.7, 768, _ADA_PRO, tf32=77.4),
    _peak("NVIDIA GeForce RTX 5090", "RTX 5090", 32, 104.8, 209.5, 838, 1792, _RTX_50, tf32=104.8),
    _peak("NVIDIA GeForce RTX 5080", "RTX 5080", 16, 56.3, 112.6, 450.2, 960, _RTX_50, tf32=56.3),
    _peak("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 82.6, 165.2, 660.6, 1008, _ADA, tf32=82.6),
    _peak("NVIDIA GeForce RTX 4080", "RTX 4080", 16, 48.7, 97.5, 389.9, 716.8, _ADA, tf32=48.7),
    _peak("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 35.6, 71, 284, 936, _AMPERE, tf32=35.6),
    _peak("AMD Instinct MI325X", "MI325X", 256, 163.4, 1307.4, 2614.9, 6000, _AMD + "mi300/mi325x.html", tf32=653.7),
    _peak("AMD Instinct MI300X", "MI300X", 192, 163.4, 1307.4, 2614.9, 5300, _AMD + "mi300/mi300x.html", tf32=653.7),
    _peak("AMD Instinct MI300A", "MI300A", 128, 122.6, 980.6, 1961.2, 5300, _AMD + "mi300/mi300a.html", tf32=490.3),
    _peak("AMD Instinct MI250X, one of its two dies", "MI250X", 64, 23.9, 191.5, 191.5, 1638, _MI250X),
)  # fmt: skip
"""The more particular name stands before the more general one."""


def published(title: str) -> PublishedPeak | None:
    """Return the published peaks of the accelerator that a driver calls by this name; None where the table lacks it."""
    words = set(title.upper().replace("-", " ").replace("/", " ").split())
    for peak in PUBLISHED:
        mine = {word.upper() for word in peak.words}
        if mine <= words and not (words - mine) & _VARIANTS:
            return peak
    return None


def table() -> list[dict[str, Any]]:
    """Return all published peaks as plain JSON."""
    return [peak.as_dict() for peak in PUBLISHED]
