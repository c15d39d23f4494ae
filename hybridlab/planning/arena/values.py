"""Tensors of a recorded pass without their memory: which storage, where in it, and how they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Value:
    """A tensor as it lies in a storage of a pass; strides are in elements.

    Two tensors that lie alike in one storage are one value: what is written to one is read from the other.
    """

    storage: int
    offset_bytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    conjugate: bool = False
    negative: bool = False

    @classmethod
    def of(cls, tensor: Tensor, storage: int) -> Value:
        """Describe a tensor that lies in a storage of this number."""
        return cls(
            storage,
            int(tensor.storage_offset()) * tensor.element_size(),
            tuple(tensor.shape),
            tuple(tensor.stride()),
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )

    @property
    def bytes(self) -> int:
        """Bytes of its elements."""
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether it lies in one piece, row by row."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    def viewed(self, shape: Sequence[int], strides: Sequence[int], skipped: int = 0) -> Value:
        """Return another view of the same storage that starts ``skipped`` elements later."""
        return Value(
            self.storage,
            self.offset_bytes + skipped * self.dtype.itemsize,
            tuple(shape),
            tuple(strides),
            self.dtype,
            self.conjugate,
            self.negative,
        )

    def flat(self) -> Value:
        """Return the elements of a contiguous value in one row."""
        return self.viewed((int(torch.Size(self.shape).numel()),), (1,))

    @property
    def alike(self) -> tuple[Any, ...]:
        """What values in other storages may share: shape, strides, dtype and lazy signs."""
        return (self.shape, self.strides, self.dtype, self.conjugate, self.negative)


def tensor_in(memory: torch.UntypedStorage, value: Value, start_bytes: int = 0) -> Tensor:
    """Return the tensor of a value in real memory, where its storage begins at ``start_bytes``."""
    tensor = torch.empty(0, dtype=value.dtype, device=memory.device)
    place = (start_bytes + value.offset_bytes) // value.dtype.itemsize
    tensor.set_(memory, place, value.shape, value.strides)
    if value.conjugate:
        tensor = tensor.conj()
    return torch._neg_view(tensor) if value.negative else tensor
