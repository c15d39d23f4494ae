"""How fragmentation of an accelerator's memory is said, the same on pages and in terminals. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.units import format_bytes

QUANTITY = "fragmentation of the device's memory"
NO_ACCELERATOR = NotMeasured(
    QUANTITY,
    "no accelerator: on a CPU, torch takes each tensor from the system and keeps no memory back",
)


def allocator_words(told: Mapping[str, Any]) -> str:
    """Say in one line what ``told_of`` returned: measured, or not measured and why; nothing where nobody looked."""
    if not told:
        return ""
    if told.get("not_measured"):
        return f"not measured: {told['not_measured']}"
    text = (
        f"{format_bytes(told['unused_bytes'])} of {format_bytes(told['reserved_bytes'])} reserved are not allocated, "
        f"{format_bytes(told['inactive_split_bytes'])} of them in pieces of blocks in use"
    )
    if told.get("largest_free_bytes") is not None:
        text += f"; the largest free block has {format_bytes(told['largest_free_bytes'])}"
    return (
        f"{text}; at most {format_bytes(told['peak_reserved_bytes'])} reserved and "
        f"{format_bytes(told['peak_allocated_bytes'])} allocated (measured)"
    )
