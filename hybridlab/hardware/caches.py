"""The sizes of a device's caches, and the working sets at which its bandwidth is worth measuring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybridlab.hardware.devices import free_bytes

if TYPE_CHECKING:
    import torch

MEMORY = "memory"
_SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
_SIZE = re.compile(r"(\d+)([KMG]?)")
_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_LEAST_MEMORY_BYTES = 256 * 1024**2
_MOST_MEMORY_BYTES = 512 * 1024**2
_UNKNOWN = (("", 256 * 1024), ("", 4 * 1024**2), ("", 32 * 1024**2))
"""Where the system does not tell its caches: sizes that fall into different levels on most machines."""


@dataclass(frozen=True)
class Cache:
    """One level that data passes: ``L1``, ``L2`` or ``L3``."""

    level: str
    size_bytes: int


def cpu_caches(system: Path = _SYSTEM) -> tuple[Cache, ...]:
    """Return the data caches that one core sees, smallest level first; none where the system does not tell.

    Linux does. A last level that cores share counts whole.
    """
    found = {}
    for place in sorted(system.glob("index*")):
        try:
            kind, level, size = (
                (place / name).read_text(encoding="ascii").strip()
                for name in ("type", "level", "size")
            )
        except (OSError, UnicodeDecodeError):
            continue
        if kind != "Instruction" and (parts := _SIZE.fullmatch(size)) and level.isdigit():
            found[int(level)] = int(parts[1]) * _FACTORS[parts[2]]
    return tuple(Cache(f"L{level}", found[level]) for level in sorted(found))


def device_caches(device: torch.device) -> tuple[Cache, ...]:
    """Return the caches of a CPU, or of an accelerator what its driver tells of them (its L2)."""
    import torch

    if device.type == "cpu":
        return cpu_caches()
    properties = getattr(torch.get_device_module(device), "get_device_properties", None)
    size = getattr(properties(device), "L2_cache_size", 0) if properties is not None else 0
    return (Cache("L2", int(size)),) if size else ()


def working_sets(device: torch.device) -> tuple[tuple[str, int], ...]:
    """Return levels with a working set in bytes that lies in each: half a cache, and memory far beyond the last one."""
    known = device_caches(device)
    sets = [(cache.level, cache.size_bytes // 2) for cache in known] or list(_UNKNOWN)
    last = known[-1].size_bytes if known else sets[-1][1]
    memory = min(max(4 * last, _LEAST_MEMORY_BYTES), max(2 * last, _MOST_MEMORY_BYTES))
    free = free_bytes(device)
    if free is not None:
        memory = min(memory, free // 4)
    return (*sets, (MEMORY, memory))
