"""What torch's caching allocator holds of an accelerator, and how much of it no tensor uses: its fragmentation.

Keys and meanings: https://docs.pytorch.org/docs/stable/generated/torch.cuda.memory.memory_stats.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hybridlab.hardware.meters.allocator_words import NO_ACCELERATOR, QUANTITY
from hybridlab.hardware.meters.meter import NotMeasured, why

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Held:
    """One device's memory in this process at a moment, in bytes.

    Attributes:
        allocated_bytes: in tensors.
        reserved_bytes: what the allocator has from the driver.
        inactive_split_bytes: free pieces of blocks that are in use elsewhere, which cannot go back to the driver.
        peak_allocated_bytes, peak_reserved_bytes: the most of both since the peaks were last forgotten.
        largest_free_bytes: the largest free block; None where the backend tells no blocks.
    """

    allocated_bytes: int
    reserved_bytes: int
    inactive_split_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    largest_free_bytes: int | None

    @property
    def unused_bytes(self) -> int:
        """Reserved minus allocated: what the allocator keeps and no tensor uses."""
        return self.reserved_bytes - self.allocated_bytes

    def as_dict(self) -> dict[str, int | None]:
        """Return the figures as plain JSON."""
        return {**asdict(self), "unused_bytes": self.unused_bytes}


def held(device: torch.device) -> Held | NotMeasured:
    """Return what the allocator holds of a device now, or why that is not known; nothing is changed or waited for."""
    if device.type == "cpu":
        return NO_ACCELERATOR
    try:
        told = allocator_figures(device)
        largest = largest_free_bytes(device)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        return NotMeasured(QUANTITY, why(error))
    return Held(
        allocated_bytes=told["allocated"],
        reserved_bytes=told["reserved"],
        inactive_split_bytes=told["inactive_split"],
        peak_allocated_bytes=told["peak_allocated"],
        peak_reserved_bytes=told["peak_reserved"],
        largest_free_bytes=largest,
    )


def allocator_figures(device: torch.device) -> dict[str, int]:
    """Return bytes by name: allocated, reserved, inactive_split, peak_allocated, peak_reserved.

    Raises:
        RuntimeError, NotImplementedError, AttributeError: the backend does not tell.
    """
    import torch

    stats: Mapping[str, Any] = torch.accelerator.memory_stats(device)
    keys = {
        "allocated": "allocated_bytes.all.current",
        "reserved": "reserved_bytes.all.current",
        "inactive_split": "inactive_split_bytes.all.current",
        "peak_allocated": "allocated_bytes.all.peak",
        "peak_reserved": "reserved_bytes.all.peak",
    }
    return {name: int(stats.get(key, 0)) for name, key in keys.items()}


def forget_peaks(device: torch.device) -> None:
    """Let the peaks of a device begin anew; does nothing where there are none."""
    import torch

    if device.type != "cpu":
        with contextlib.suppress(RuntimeError, NotImplementedError, AttributeError):
            torch.accelerator.reset_peak_memory_stats(device)


def largest_free_bytes(device: torch.device) -> int | None:
    """Return the largest free block that the allocator holds of a device, None where the backend tells no blocks.

    Raises:
        RuntimeError: the backend does not tell now.
    """
    import torch

    module = torch.get_device_module(device)
    snapshot = getattr(module, "memory_snapshot", None)
    if snapshot is None:
        return None
    if not getattr(module, "is_initialized", lambda: True)():  # nothing was allocated yet
        return 0
    try:
        segments = snapshot(
            include_traces=False
        )  # CUDA's; the history of allocations is not needed
    except TypeError:
        segments = snapshot()
    index: int | None = device.index  # torch's stubs know no device without one
    if index is None:
        index = torch.accelerator.current_device_index()
    return largest_of(one for one in segments if one.get("device", index) == index)


def largest_of(segments: Iterable[Mapping[str, Any]]) -> int:
    """Return the largest free block of a snapshot's segments; 0 where none is free."""
    return max(
        (
            int(block["size"])
            for segment in segments
            for block in segment["blocks"]
            if block["state"] == "inactive"
        ),
        default=0,
    )


def told_of(found: Held | NotMeasured) -> dict[str, Any]:
    """Return what is held, or ``not_measured`` with the reason, as plain JSON."""
    return found.as_dict() if isinstance(found, Held) else {"not_measured": found.reason}
