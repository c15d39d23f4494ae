"""Memory pools as torch has them: one ``MemPool`` each, of the devices whose backend knows them (CUDA, ROCm, XPU).

https://docs.pytorch.org/docs/stable/generated/torch.cuda.memory.MemPool.html
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hybridlab.errors import DeviceError, Problem


@dataclass(frozen=True)
class PoolBytes:
    """What one pool holds, in bytes: ``reserved_bytes`` from the driver, ``allocated_bytes`` of them in tensors."""

    reserved_bytes: int
    allocated_bytes: int

    @property
    def unused_bytes(self) -> int:
        """Reserved minus allocated."""
        return self.reserved_bytes - self.allocated_bytes


class Backend(Protocol):
    """Makes pools of one device, and has this thread's allocations come from one."""

    def make(self) -> Any:
        """Return a new pool; it goes back to the device when nothing holds it any more."""

    def within(self, pool: Any) -> AbstractContextManager[object]:
        """Return a context in which this thread allocates from a pool."""

    def bytes_of(self, pool: Any) -> PoolBytes:
        """Return what a pool holds."""


class TorchPools:
    """The pools of torch's own allocator on a device."""

    def __init__(self, device: torch.device) -> None:
        """Look for pools; nothing is made, and no device is woken.

        Raises:
            DeviceError: torch has no pools for devices of this kind.
        """
        if (reason := lacking(device)) is not None:
            raise DeviceError(
                Problem("pools", reason, "a GPU", str(device), "leave pools out on this device")
            )
        self.device = device
        self._module: Any = torch.get_device_module(device)

    def make(self) -> Any:
        """Return a new pool.

        Where memory runs out elsewhere, the allocator may take free memory of the pool before it gives up.

        Raises:
            DeviceError: the allocator was asked to be one that has no pools.
        """
        backend = getattr(self._module, "get_allocator_backend", lambda: "native")()
        if backend != "native":
            raise DeviceError(
                Problem(
                    "pools",
                    "torch's allocator makes none in this process",
                    "native",
                    str(backend),
                    "take backend out of PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF",
                )
            )
        with self._module.device(self.device):
            return self._module.MemPool(use_on_oom=True)

    def within(self, pool: Any) -> AbstractContextManager[object]:
        """Return a context in which this thread allocates from a pool; other threads do not."""
        context: AbstractContextManager[object] = self._module.use_mem_pool(pool, self.device)
        return context

    def bytes_of(self, pool: Any) -> PoolBytes:
        """Return what the allocator's snapshot of a pool adds up to."""
        try:
            segments = pool.snapshot(include_traces=False)
        except TypeError:  # XPU's takes no such word
            segments = pool.snapshot()
        return PoolBytes(
            sum(int(one["total_size"]) for one in segments),
            sum(int(one["allocated_size"]) for one in segments),
        )


def lacking(device: torch.device) -> str | None:
    """Say why there are no memory pools on a device; None where there are."""
    if device.type == "cpu":
        return "a CPU has no memory pools: torch takes each tensor from the system"
    try:
        module = torch.get_device_module(device)
    except RuntimeError:
        module = None
    if hasattr(module, "MemPool") and hasattr(module, "use_mem_pool"):
        return None
    return f"torch has no memory pools for {device.type} devices"
