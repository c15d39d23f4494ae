"""Where a training runs and in which number format: device-neutral, float32 weights throughout."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from hybridlab.errors import DeviceError, Problem
from hybridlab.hardware.devices import choose
from hybridlab.training.spec import TrainSpec


@dataclass(frozen=True)
class Numerics:
    """A device and the format of its arithmetic; ``dtype`` is None for plain float32."""

    device: torch.device
    dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a forward runs."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return a loss scaler for float16, whose gradients underflow without one; None otherwise."""
        if self.dtype is not torch.float16:
            return None
        return torch.amp.GradScaler(self.device.type)


def numerics(spec: TrainSpec) -> Numerics:
    """Return where and how a spec's arithmetic runs.

    Raises:
        DeviceError: the device is not there, or does not have the precision.
    """
    device = choose(spec.device)
    if spec.precision == "float32":
        return Numerics(device, None)
    if spec.precision == "auto":
        capable = device.type != "cpu" and _has_bfloat16(device)
        return Numerics(device, torch.bfloat16 if capable else None)
    if spec.precision == "float16" and device.type == "cpu":
        problem = Problem(
            "precision", "a CPU does not train in float16", "float32 or bfloat16", "float16"
        )
        raise DeviceError(problem)
    if spec.precision == "bfloat16" and device.type != "cpu" and not _has_bfloat16(device):
        problem = Problem(
            "precision", f"{device} does not have bfloat16", "float32 or float16", "bfloat16"
        )
        raise DeviceError(problem)
    return Numerics(device, getattr(torch, spec.precision))


def _has_bfloat16(device: torch.device) -> bool:
    asked = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    return bool(asked()) if asked is not None else False
