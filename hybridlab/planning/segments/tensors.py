"""Tensors and their descriptions: shapes, strides and what they share, without values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridlab.planning.segments.record import Given, Meta, UnusualError


def meta_of(tensor: Tensor) -> Meta:
    """Describe a tensor."""
    return Meta(
        tuple(tensor.shape),
        tuple(tensor.stride()),
        int(tensor.storage_offset()),
        tensor.dtype,
        tensor.untyped_storage().nbytes(),
    )


def made(meta: Meta, base: Tensor | None = None) -> Tensor:
    """Return a tensor of a description, in the storage of ``base`` where there is one."""
    if base is None:
        whole = torch.empty_strided(meta.shape, meta.strides, dtype=meta.dtype)
        if meta.offset == 0 and whole.untyped_storage().nbytes() == meta.bytes:
            return whole
        base = torch.empty(-(-meta.bytes // meta.dtype.itemsize), dtype=meta.dtype)
        if base.untyped_storage().nbytes() != meta.bytes:
            raise UnusualError("a storage of an odd size")
    if base.dtype != meta.dtype:
        raise UnusualError("a storage of two types")
    return base.as_strided(meta.shape, meta.strides, meta.offset)


def several(given: Sequence[Given | None]) -> list[Tensor | None]:
    """Return tensors of descriptions, sharing what these share."""
    bases: dict[int, Tensor] = {}
    known: dict[int, Tensor] = {}
    found: list[Tensor | None] = []
    for one in given:
        if one is None:
            found.append(None)
            continue
        if one.tensor not in known:
            known[one.tensor] = made(one.meta, bases.get(one.storage))
            bases.setdefault(one.storage, known[one.tensor])
        found.append(known[one.tensor])
    return found


def like(tensor: Tensor) -> Meta:
    """Describe the gradient that a tensor gets most often: laid out as it is, but in one piece."""
    if tensor.dim() == 0:
        return Meta((), (), 0, tensor.dtype, tensor.element_size())
    strides = tuple(torch.empty(tensor.shape, dtype=tensor.dtype).stride())
    return Meta(
        tuple(tensor.shape), strides, 0, tensor.dtype, tensor.numel() * tensor.element_size()
    )
