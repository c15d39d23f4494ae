"""An accelerator's memory as ``torch.accelerator`` tells it, and the name by which its driver knows it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hybridlab.hardware.meters.allocator import allocator_figures, largest_free_bytes
from hybridlab.hardware.meters.meter import Meter, Meters, NotMeasured, Read, why

if TYPE_CHECKING:
    import torch

_QUANTITY = "device memory"
_FREE = "largest free block of the device's memory"
_LOOK_S = 0.95
"""Between two looks at all blocks, which costs more than the counters do."""


def accelerator_meters(device: torch.device) -> Meters:
    """Return the meters of the memory that this process holds on a device; a CPU has none beside the process's own.

    Names: ``device_bytes`` (in tensors), ``device_reserved_bytes`` (kept from the driver by torch's allocator),
    ``device_unused_bytes`` (the latter minus the former), ``device_inactive_split_bytes`` (of these, pieces of blocks
    that are in use elsewhere) and ``device_largest_free_bytes``.
    """
    if device.type == "cpu":
        return Meters()

    def read() -> Mapping[str, float]:
        told = allocator_figures(device)
        return {
            "device_bytes": float(told["allocated"]),
            "device_reserved_bytes": float(told["reserved"]),
            "device_unused_bytes": float(told["reserved"] - told["allocated"]),
            "device_inactive_split_bytes": float(told["inactive_split"]),
        }

    looked = -math.inf

    def read_free() -> Mapping[str, float]:
        nonlocal looked
        if looked > time.monotonic() - _LOOK_S:
            return {}
        looked = time.monotonic()
        largest = largest_free_bytes(device)
        return {} if largest is None else {"device_largest_free_bytes": float(largest)}

    return _tried(_QUANTITY, device, read) + _tried(_FREE, device, read_free)


def _tried(quantity: str, device: torch.device, read: Read) -> Meters:
    """Return the meter of a quantity if it reads something here, else why it does not."""
    try:
        found = read()
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        return Meters(not_measured=(NotMeasured(quantity, why(error)),))
    if not found:
        reason = f"torch tells no blocks of {device.type} devices"
        return Meters(not_measured=(NotMeasured(quantity, reason),))
    return Meters((Meter(quantity, f"torch.accelerator on {device}", read),))


def gpu_uuid(device: torch.device) -> str | None:
    """Return the name by which a GPU's driver knows the device whatever its index; None where torch does not tell."""
    import torch

    properties = getattr(torch.get_device_module(device), "get_device_properties", None)
    uuid = getattr(properties(device), "uuid", None) if properties is not None else None
    return f"GPU-{str(uuid).removeprefix('GPU-')}" if uuid is not None else None
