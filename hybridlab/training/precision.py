"""Where a training runs and in which number format: device-neutral, float32 weights throughout."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from hybridlab.errors import DeviceError, Problem
from hybridlab.hardware.devices import choose
from hybridlab.trace.step import casting
from hybridlab.training.spec import TrainSpec


@dataclass(frozen=True)
class Numerics:
    """A device and the format of its arithmetic; ``dtype`` is None for plain float32."""

    device: torch.device
    dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a forward runs."""
        return casting(self.dtype, self.device.type)

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return a loss scaler for float16, whose gradients underflow without one; None otherwise."""
        if self.dtype is not torch.float16:
            return None
        return torch.amp.GradScaler(self.device.type)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let only algorithms run in here that give the same bits each time, where that is wanted.

    https://docs.pytorch.org/docs/stable/notes/randomness.html; cuBLAS needs its workspace set before its first use.

    Raises:
        DeviceError: an operation has no such algorithm; it names it.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        what = str(error).split(" does not have", 1)[0].split(" ", 1)[0]
        fix = "set deterministic to false, or use another component"
        problem = Problem("deterministic", f"{what} has no deterministic form here", fix=fix)
        raise DeviceError(problem) from None
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = benchmark


def numerics(spec: TrainSpec) -> Numerics:
    """Return where and how a spec's arithmetic runs.

    Raises:
        DeviceError: the device is not there, or does not have the precision.
    """
    device = choose(spec.device)
    if spec.precision == "float32":
        return Numerics(device, None)
    if spec.precision == "auto":
        capable = device.type != "cpu" and has_bfloat16(device)
        return Numerics(device, torch.bfloat16 if capable else None)
    if spec.precision == "float16" and device.type == "cpu":
        problem = Problem(
            "precision", "a CPU does not train in float16", "float32 or bfloat16", "float16"
        )
        raise DeviceError(problem)
    if spec.precision == "bfloat16" and device.type != "cpu" and not has_bfloat16(device):
        problem = Problem(
            "precision", f"{device} does not have bfloat16", "float32 or float16", "bfloat16"
        )
        raise DeviceError(problem)
    return Numerics(device, getattr(torch, spec.precision))


def has_bfloat16(device: torch.device) -> bool:
    """Say whether an accelerator computes in bfloat16."""
    asked = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    return bool(asked()) if asked is not None else False
