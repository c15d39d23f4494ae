"""What a component hands over with the positions of each feature side by side: the same values in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hybridlab.architecture.model import Slot
from hybridlab.components.channel_major import Layout, by_channels


def laid(x_BLD: Tensor, layout: Layout) -> Tensor:
    """Return (B, L, D) as it is to lie in memory: the same tensor where it does, else a copy."""
    if layout == "tokens":
        return x_BLD.contiguous()
    return by_channels(x_BLD).permute(1, 2, 0)


class HandedOver:
    """The outputs of some components turned, on or off."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        """Know the components in their places; nothing changes yet."""
        self._slots = tuple(slots)
        self._hooks: list[Any] = []

    def on(self) -> None:
        """Turn what they give, their residuals included."""
        if not self._hooks:
            self._hooks = [slot.register_forward_hook(_turned) for slot in self._slots]

    def off(self) -> None:
        """Hand over what they give as it lies."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _turned(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return laid(output, "channels")
