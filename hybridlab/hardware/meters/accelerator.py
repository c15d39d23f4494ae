"""An accelerator's memory as ``torch.accelerator`` tells it, and the name by which its driver knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hybridlab.hardware.meters.meter import Meter, Meters, NotMeasured, why

if TYPE_CHECKING:
    import torch

_QUANTITY = "device memory"


def accelerator_meters(device: torch.device) -> Meters:
    """Return the meter of the memory that this process holds on a device; a CPU has none beside the process's own.

    Names: ``device_bytes`` (in tensors) and ``device_reserved_bytes`` (kept from the driver by torch's allocator).
    """
    if device.type == "cpu":
        return Meters()
    import torch

    def read() -> Mapping[str, float]:
        return {
            "device_bytes": float(torch.accelerator.memory_allocated(device)),
            "device_reserved_bytes": float(torch.accelerator.memory_reserved(device)),
        }

    try:
        read()
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        return Meters(not_measured=(NotMeasured(_QUANTITY, why(error)),))
    return Meters((Meter(_QUANTITY, f"torch.accelerator on {device}", read),))


def gpu_uuid(device: torch.device) -> str | None:
    """Return the name by which a GPU's driver knows the device whatever its index; None where torch does not tell."""
    import torch

    properties = getattr(torch.get_device_module(device), "get_device_properties", None)
    uuid = getattr(properties(device), "uuid", None) if properties is not None else None
    return f"GPU-{str(uuid).removeprefix('GPU-')}" if uuid is not None else None
