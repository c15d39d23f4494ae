"""What components read and give in a forward, caught by hooks that are there only while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hybridlab.architecture.model import Slot


@dataclass
class Seen:
    """What one component read and gave; of a group that runs again, the last time."""

    given: tuple[Tensor, ...] = ()
    """What came to the component's place, before the norm of its residual."""
    read: tuple[Tensor, ...] = ()
    """What the component itself read, behind the norm."""
    gave: Tensor | None = None
    """What left the place, its residual included: the hidden state there, (B, L, D)."""


@contextmanager
def watching(slots: Mapping[str, Slot]) -> Iterator[dict[str, Seen]]:
    """Catch what components read and give, by path; tensors are handed on as they are, with their gradients."""
    seen = {path: Seen() for path in slots}
    handles = []
    for path, slot in slots.items():
        handles.append(slot.register_forward_pre_hook(_given(seen[path])))
        handles.append(slot.body.register_forward_pre_hook(_read(seen[path])))
        handles.append(slot.register_forward_hook(_gave(seen[path])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _given(seen: Seen) -> Callable[..., None]:
    def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
        seen.given = inputs

    return hook


def _read(seen: Seen) -> Callable[..., None]:
    def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
        seen.read = inputs

    return hook


def _gave(seen: Seen) -> Callable[..., None]:
    def hook(module: Any, inputs: Any, output: Tensor) -> None:
        seen.gave = output

    return hook
