"""Moves what autograd keeps of a component out of memory behind its forward, and back before its backward.

By hooks on saved tensors, storage by storage: what several nodes keep goes and comes once. All of a component goes when
its forward has ended and comes when its backward first asks, so that its peaks are those of the plain step. Without a
smaller type the bits that come back are those that went.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybridlab.planning.shelf import Shelf


@dataclass(frozen=True)
class _Handle:
    """One kept tensor: which storage it is in, and how it lies there."""

    moved: _Moved
    storage: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    conjugate: bool
    negative: bool


class Offloading:
    """Offloads of one model's step to one shelf."""

    def __init__(self, shelf: Shelf) -> None:
        """Know the shelf."""
        self.shelf = shelf

    @contextlib.contextmanager
    def of_one(self, stays: Collection[int]) -> Iterator[None]:
        """Offload what is kept of what runs inside; storages in ``stays``, such as weights, are there anyway."""
        moved = _Moved(self.shelf, stays)
        with torch.autograd.graph.saved_tensors_hooks(moved.pack, moved.unpack):
            yield
        moved.leave()


def storages_of(model: nn.Module, *others: Tensor) -> set[int]:
    """Return the storages of a model's weights and buffers, and of other tensors."""
    every = (*model.parameters(), *model.buffers(), *others)
    return {_storage(tensor) for tensor in every}


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Moved:
    """What autograd keeps of one component in one step: in memory, on the shelf, and in memory again."""

    def __init__(self, shelf: Shelf, stays: Collection[int]) -> None:
        self.shelf, self.stays = shelf, stays
        self.here: dict[int, Tensor] = {}
        self.numbers: dict[int, int] = {}
        self.back: dict[int, Tensor] = {}
        self.asked: Counter[int] = Counter()
        self.left: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> Tensor | _Handle:
        """Note a tensor that is kept; it goes when all of the component goes."""
        key = _storage(tensor)
        if key in self.stays or tensor.layout is not torch.strided:
            return tensor
        self.here.setdefault(key, tensor)
        self.asked[key] += 1
        return _Handle(
            self,
            key,
            tuple(tensor.shape),
            tuple(tensor.stride()),
            int(tensor.storage_offset()),
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )

    def leave(self) -> None:
        """Put everything on the shelf, and let go of it."""
        for key, tensor in self.here.items():
            with torch.no_grad():
                self.numbers[key] = self.shelf.put(_flat(tensor))
        self.here.clear()
        weakref.finalize(self, _free, self.shelf, tuple(self.numbers.values()))

    def unpack(self, kept: Tensor | _Handle) -> Tensor:
        """Return a tensor that was kept; with the first of a component all of it comes back."""
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            if not self.left and not self.here:
                self.back = {key: self.shelf.get(number) for key, number in self.numbers.items()}
                self.left = self.asked.copy()
            whole = self.here.get(kept.storage)
            if whole is None:
                if not self.left[kept.storage]:  # a loss before this one has asked for a part alone
                    self.back[kept.storage] = self.shelf.get(self.numbers[kept.storage])
                    self.left[kept.storage] = self.asked[kept.storage]
                whole = self.back[kept.storage]
                self.left[kept.storage] -= 1
                if not self.left[kept.storage]:
                    del self.back[kept.storage], self.left[kept.storage]
            flat = _flat(whole).view(kept.dtype)
            tensor = flat.as_strided(kept.shape, kept.strides, kept.offset)
            if kept.conjugate:
                tensor = torch._conj(tensor)
            return torch._neg_view(tensor) if kept.negative else tensor


def _flat(tensor: Tensor) -> Tensor:
    """Return all of a tensor's storage, flat."""
    size = tensor.untyped_storage().nbytes() // tensor.dtype.itemsize
    plain = torch._neg_view(tensor) if tensor.is_neg() else tensor
    plain = torch._conj(plain) if plain.is_conj() else plain
    return plain.detach().as_strided((size,), (1,), 0)


def _free(shelf: Shelf, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        shelf.free(number)
