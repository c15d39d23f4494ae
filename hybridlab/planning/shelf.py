"""Where tensors go that leave a device's memory for a while: pinned memory of the host, or a file that is mapped."""

from __future__ import annotations

import functools
import mmap
import os
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hybridlab.errors import Problem, RunError

_PAGE = mmap.ALLOCATIONGRANULARITY
_TRIAL_BYTES = 4 << 20


class Shelf(Protocol):
    """Keeps flat tensors by a number; ``dtype`` is the one that they are kept in, None their own."""

    dtype: torch.dtype | None

    def put(self, flat: Tensor) -> int:
        """Take a flat tensor and return its number."""

    def get(self, number: int) -> Tensor:
        """Return a copy of what has a number, on the device and of the type that it was given in."""

    def free(self, number: int) -> None:
        """Forget what has a number."""


@dataclass(frozen=True)
class _Kept:
    there: Tensor
    dtype: torch.dtype
    device: torch.device


class _Shelf:
    """What shelves have in common: places of one size are used again, so that every step uses those of the first."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self._kept: dict[int, _Kept] = {}
        self._idle: dict[int, list[Tensor]] = {}
        self._next = 0

    def put(self, flat: Tensor) -> int:
        """Take a flat tensor; numbers that are no float32 are kept as they are."""
        lossy = self.dtype is not None and flat.dtype is torch.float32
        dtype = self.dtype if lossy and self.dtype is not None else flat.dtype
        size = flat.numel() * dtype.itemsize
        idle = self._idle.setdefault(size, [])
        place = idle.pop() if idle else self._place(size)
        place.view(dtype).copy_(flat)
        self._next += 1
        self._kept[self._next] = _Kept(place, flat.dtype, flat.device)
        return self._next

    def get(self, number: int) -> Tensor:
        """Return a copy, turned back into the type that it was given in."""
        kept = self._kept[number]
        lossy = self.dtype is not None and kept.dtype is torch.float32
        dtype = self.dtype if lossy and self.dtype is not None else kept.dtype
        flat = kept.there.view(dtype)
        return torch.empty(flat.shape, dtype=kept.dtype, device=kept.device).copy_(flat)

    def free(self, number: int) -> None:
        """Let the place be used again."""
        place = self._kept.pop(number).there
        self._idle[place.numel()].append(place)

    def _place(self, size: int) -> Tensor:
        raise NotImplementedError


class PinnedShelf(_Shelf):
    """Pinned memory of the host, which a GPU copies from and to by itself."""

    def _place(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available())


class FileShelf(_Shelf):
    """A file without a name in a folder, mapped into memory, which the system writes out and drops as it needs to."""

    def __init__(self, folder: Path | None = None, dtype: torch.dtype | None = None) -> None:
        """Make the file, in the system's folder for temporary files where none is named.

        Raises:
            RunError: it cannot be made there.
        """
        super().__init__(dtype)
        self._bytes = 0
        self._folder = str(folder or tempfile.gettempdir())
        try:
            self._file, name = tempfile.mkstemp(dir=self._folder)
            Path(name).unlink()
        except OSError as error:
            raise RunError(
                Problem("plan.offload", f"cannot make a file in {self._folder}: {error.strerror}")
            ) from None
        weakref.finalize(self, os.close, self._file)

    def _place(self, size: int) -> Tensor:
        if not size:
            return torch.empty(0, dtype=torch.uint8)
        start = self._bytes
        whole = -(-size // _PAGE) * _PAGE
        try:
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a signal
                os.posix_fallocate(self._file, start, whole)
            else:
                os.ftruncate(self._file, start + whole)
            mapped = mmap.mmap(self._file, size, offset=start)
        except OSError as error:
            raise RunError(
                Problem(
                    "plan.offload",
                    f"has no room in {self._folder} for {size} bytes more: {error.strerror}",
                    fix="free some of the disk, or set TMPDIR to a folder on another one",
                )
            ) from None
        self._bytes += whole
        return torch.frombuffer(mapped, dtype=torch.uint8)


class NoShelf:
    """Keeps sizes alone, for predictions."""

    def __init__(self) -> None:
        """Begin empty."""
        self.dtype: torch.dtype | None = None
        self._kept: dict[int, tuple[int, torch.dtype]] = {}

    def put(self, flat: Tensor) -> int:
        """Note the size."""
        self._kept[len(self._kept)] = flat.numel(), flat.dtype
        return len(self._kept) - 1

    def get(self, number: int) -> Tensor:
        """Return a tensor of the size."""
        size, dtype = self._kept[number]
        return torch.empty(size, dtype=dtype)

    def free(self, number: int) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Speed:
    """What a shelf takes: microseconds for each tensor, there and back, and for each of its bytes."""

    tensor_us: float
    byte_us: float

    def us(self, size: int) -> float:
        """Return the microseconds of one tensor."""
        return self.tensor_us + self.byte_us * size


@functools.cache
def shelf_speed(dtype: torch.dtype | None = None) -> Speed:
    """Measure a file's shelf on this machine, once a process: tensors of 4 KiB and of 4 MiB, there and back."""
    shelf = FileShelf(dtype=dtype)

    def once(size: int) -> float:
        flat = torch.zeros(size // 4)
        best = float("inf")
        for _ in range(4):
            began = time.perf_counter()
            number = shelf.put(flat)
            shelf.get(number)
            best = min(best, 1e6 * (time.perf_counter() - began))
            shelf.free(number)
        return best

    small, large = once(4096), once(_TRIAL_BYTES)
    return Speed(small, max(0.0, large - small) / _TRIAL_BYTES)
