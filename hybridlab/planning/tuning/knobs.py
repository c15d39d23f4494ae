"""What can be turned at a component without changing what it computes: its chunk, how its sequence lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

from annotated_types import Ge, Le
from torch import Tensor

from hybridlab.components.base import Component
from hybridlab.components.channel_major import LAYOUTS
from hybridlab.components.depthwise import FORMS, DepthwiseConv, Form

FIRST = 16
"""The smallest chunk that is tried: below it products are too small to be worth their calls."""
Value = int | str


class Knob(ABC):
    """Something of a component that may be set to one of several values, all of which compute the same."""

    name: ClassVar[str]
    """As in ``Tuning``."""
    lays: ClassVar[bool] = True
    """Whether it is about how numbers lie in memory."""

    @abstractmethod
    def has(self, component: Component) -> bool:
        """Say whether a component has it."""

    @abstractmethod
    def at(self, component: Component) -> Value:
        """Return what it is set to."""

    @abstractmethod
    def set(self, component: Component, value: Value) -> None:
        """Set it."""

    @abstractmethod
    def refused(self, component: Component, value: Value) -> str:
        """Say why it cannot be set to a value; nothing where it can."""

    @abstractmethod
    def others(self, component: Component, x_BLD: Tensor) -> list[Value]:
        """Return the values that are worth trying on an input beside the present one."""


class Chunk(Knob):
    """Positions that a scan takes in one matrix product."""

    name = "chunk"
    lays = False

    def has(self, component: Component) -> bool:
        """Whether it works in chunks."""
        return "chunk" in type(component.params).model_fields

    def at(self, component: Component) -> int:
        """Return the positions in a product."""
        return int(component.params.chunk)

    def set(self, component: Component, value: Value) -> None:
        """Set the positions in a product."""
        component.params = component.params.model_copy(update={"chunk": value})

    def refused(self, component: Component, value: Value) -> str:
        """Say where a chunk is out of range."""
        low, high = bounds(type(component.params))
        return "" if low <= int(value) <= high else f"is not within {low} and {high}"

    def others(self, component: Component, x_BLD: Tensor) -> list[Value]:
        """Return the powers of two in range that cut this length in another way."""
        whole = power_of_two(x_BLD.shape[1])
        low, high = bounds(type(component.params))
        now = min(power_of_two(self.at(component)), whole)
        sizes = [1 << place for place in range(FIRST.bit_length() - 1, high.bit_length())]
        return [size for size in sizes if low <= size <= min(high, whole) and size != now]


class Convolution(Knob):
    """How a short depthwise convolution along the sequence is laid out."""

    name = "convolution"

    def has(self, component: Component) -> bool:
        """Whether there is one in it."""
        return bool(_convolutions(component))

    def at(self, component: Component) -> str:
        """Return the form of its first one."""
        return _convolutions(component)[0].form

    def set(self, component: Component, value: Value) -> None:
        """Set the form of all of its convolutions."""
        for one in _convolutions(component):
            one.form = cast(Form, value)

    def refused(self, component: Component, value: Value) -> str:
        """Say what is no form."""
        return "" if value in FORMS else f"is none of {', '.join(FORMS)}"

    def others(self, component: Component, x_BLD: Tensor) -> list[Value]:
        """Return the other forms."""
        return [form for form in FORMS if form != self.at(component)]


class Within(Knob):
    """How a sequence lies within a component: by tokens, the features of a position side by side, or by channels."""

    name = "layout"

    def has(self, component: Component) -> bool:
        """Whether it can be either way."""
        return hasattr(component, "layout")

    def at(self, component: Component) -> str:
        """Return how it lies."""
        return str(component.layout)

    def set(self, component: Component, value: Value) -> None:
        """Let it lie so from now on."""
        component.__dict__["layout"] = value

    def refused(self, component: Component, value: Value) -> str:
        """Say what is no layout."""
        return "" if value in LAYOUTS else f"is none of {', '.join(LAYOUTS)}"

    def others(self, component: Component, x_BLD: Tensor) -> list[Value]:
        """Return the other one."""
        return [layout for layout in LAYOUTS if layout != self.at(component)]


KNOBS: tuple[Knob, ...] = (Chunk(), Convolution(), Within())


def bounds(params: type[Any]) -> tuple[int, int]:
    """Return the smallest and the largest chunk that a component's parameters allow."""
    low, high = 1, 1024
    for one in params.model_fields["chunk"].metadata:
        low = cast(int, one.ge) if isinstance(one, Ge) else low
        high = cast(int, one.le) if isinstance(one, Le) else high
    return low, high


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << max(0, number - 1).bit_length()


def _convolutions(component: Component) -> list[DepthwiseConv]:
    return [one for one in component.modules() if isinstance(one, DepthwiseConv)]
