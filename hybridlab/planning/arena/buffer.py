"""The buffer that passes run in: one for any number of passes that never run together."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

import torch

from hybridlab.errors import Problem, RunError
from hybridlab.units import format_bytes


class Tenant(Protocol):
    """What has tensors in an arena."""

    def leave(self) -> None:
        """Drop them, so that the memory under them can go."""


class Arena:
    """One piece of memory, as large as the largest pass that was planned in it.

    It grows when a larger pass is planned, or runs after ``release``; passes that were planned before move into the new
    memory when they run next.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Take no memory yet."""
        self.device = torch.device(device)
        self._wanted_bytes = 0
        self._memory: torch.UntypedStorage | None = None
        self._in_use = threading.Lock()
        self._tenants: weakref.WeakSet[Tenant] = weakref.WeakSet()

    def __repr__(self) -> str:
        """Say how large it is and where."""
        return f"Arena({format_bytes(self.bytes)} on {self.device})"

    @property
    def bytes(self) -> int:
        """Bytes that it holds now."""
        return 0 if self._memory is None else self._memory.nbytes()

    def want(self, size_bytes: int, tenant: Tenant) -> None:
        """Make sure that it will be at least this large; the tenant hears when its memory goes."""
        self._wanted_bytes = max(self._wanted_bytes, size_bytes)
        self._tenants.add(tenant)

    def release(self) -> None:
        """Give the memory back; the next pass takes it anew."""
        with self:
            self._empty()

    def memory(self) -> torch.UntypedStorage:
        """Return the memory, taken or grown where need be; call it inside ``with arena``."""
        if self._memory is None or self._memory.nbytes() < self._wanted_bytes:
            self._empty()  # before the larger one is taken
            self._memory = taken_bytes(self._wanted_bytes, self.device)
        return self._memory

    def _empty(self) -> None:
        for tenant in self._tenants:
            tenant.leave()
        self._memory = None

    def __enter__(self) -> Arena:
        """Take it for one pass.

        Raises:
            RunError: another pass is running in it.
        """
        if not self._in_use.acquire(blocking=False):
            what = "another pass is running in this arena"
            fix = "give models that run together an arena each"
            raise RunError(Problem("arena", what, fix=fix))
        return self

    def __exit__(self, *error: object) -> None:
        """Let the next pass have it."""
        self._in_use.release()


def taken_bytes(
    size_bytes: int, device: torch.device, value: int | None = None
) -> torch.UntypedStorage:
    """Take memory from the device's allocator, filled with a value where one is given."""
    taken = torch.empty(size_bytes, dtype=torch.uint8, device=device)
    return (taken if value is None else taken.fill_(value)).untyped_storage()
