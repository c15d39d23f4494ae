"""How a component is written into a graph whose batch and length are open: as it stands, or position by position.

Chunks, parallel scans and kernels of our own are cut to the length that is traced, or are no operators of ONNX. Their
step form has neither: one position with the state before it, which ONNX's ``Scan`` repeats over any length.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import Component, Kind
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError

Way = Literal["whole", "steps", "masked", "fixed", "none"]
WHOLE_BY_NATURE = {"short_conv", "dilated_conv"}
"""Mixers with a state of constant size whose whole form is one convolution for any length."""
FIXED = {
    "convnext": "it lays positions out in rows and columns, whose number is that of the length",
    "hyena": "its filters are made for the length, and transformed at it",
}
"""Components that a graph can hold for one length alone, and why."""
MASKED = {
    "mixture_of_depths": "how many positions it chooses is known when it runs; its layer works on all, and a mask "
    "keeps the chosen ones",
}
"""Components whose naive form is written, which computes everywhere what the efficient one computes in places."""
UNWRITABLE = {
    "s4d": "its states are complex numbers in double precision, for which ONNX has no operators",
}
"""Components that no graph can hold, and why."""


@dataclass(frozen=True)
class Form:
    """How a component is written: whole, by steps, masked, for one length alone, or not at all; and why not whole."""

    way: Way
    why: str = ""


def form_of(component: Component) -> Form:
    """Return how a component is written into a graph."""
    name = component.info.name
    if name in UNWRITABLE:
        return Form("none", UNWRITABLE[name])
    if name in FIXED:
        return Form("fixed", FIXED[name])
    if name in MASKED:
        return Form("masked", MASKED[name])
    if component.info.kind is not Kind.TOKEN_MIXER or name in WHOLE_BY_NATURE:
        return Form("whole")
    if any(isinstance(part, nn.RNNBase) for part in component.modules()):
        return Form("whole")  # ONNX has operators for these
    if _steady(component):
        return Form("steps", "its efficient form is cut to a length, or runs in a kernel")
    return Form("whole")


@contextlib.contextmanager
def in_graph_form(model: GraphModel) -> Iterator[list[str]]:
    """Let the components that are written by steps, or masked, compute so; gives the paths of those by steps."""
    ways = [(path, slot.body, form_of(slot.body).way) for path, slot in model.slots()]
    for _, body, way in ways:
        if way == "steps":
            body.__dict__["forward"] = functools.partial(by_steps, body)
        elif way == "masked":
            body.__dict__["forward"] = body.reference
    try:
        yield [path for path, _, way in ways if way == "steps"]
    finally:
        for _, body, _ in ways:
            body.__dict__.pop("forward", None)


def by_steps(component: Component, *inputs_BLD: Tensor) -> Tensor:
    """Compute a component's forward position by position, (B, L, D) to (B, L, D)."""

    def one(
        state: tuple[Tensor, ...], now_BD: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        y_BD, after = component.step(tuple(state), *now_BD)
        return tuple(part.clone() for part in after), y_BD.clone()

    start = tuple(part.clone() for part in component.start(inputs_BLD[0].shape[0]))
    _, y_LBD = scan(one, start, tuple(x_BLD.transpose(0, 1) for x_BLD in inputs_BLD), dim=0)
    y_BLD: Tensor = y_LBD.transpose(0, 1)
    return y_BLD


def _steady(component: Component) -> bool:
    """Say whether a component has a step form whose state keeps its shape."""
    contexts = component.context.inputs
    if component.causal(component.params) is not True:
        return False
    if any(given.kind is not TensorKind.SEQUENCE for given in contexts):
        return False
    weight = next(iter(component.parameters()), torch.zeros(()))
    with torch.no_grad():
        state = component.start(1)
        now = [weight.new_zeros(1, int(given.shape[-1])) for given in contexts]
        try:
            _, after = component.step(state, *now)
        except StepError:
            return False
    same = [part.shape for part in state] == [part.shape for part in after]
    return bool(state) and same
