"""What the updates of a training keep in memory, predicted from the shapes of the weights alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from hybridlab.training.group_spec import OTHERS, GroupSpec
from hybridlab.training.groups import assigned, updated_by
from hybridlab.training.optimiser import spared
from hybridlab.training.spec import TrainSpec

_COUNTER_BYTES = 4
"""The number of updates that AdamW and Adafactor keep beside each weight."""


@dataclass(frozen=True)
class GroupMemory:
    """Predicted bytes of one group: its weights, their gradients, and what its optimiser remembers between steps."""

    name: str
    optimiser: str
    params: int
    weight_bytes: int
    gradient_bytes: int
    state_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)


def optimiser_memory(model: nn.Module, spec: TrainSpec) -> tuple[GroupMemory, ...]:
    """Return what each group keeps, those without weights left out; the model may be on the meta device.

    Two moments for AdamW and two tensors for schedule-free, one for Lion, Muon and SGD with momentum, a row and a
    column for each matrix of Adafactor, and nothing for what is frozen. What an optimiser takes for a moment while it
    updates is not in it, nor the copy of the weights that schedule-free makes while it is scored.

    Raises:
        SpecError: a group takes nothing, or two have one name.
    """
    found = assigned(model, spec.groups)
    without_decay = spared(model)
    told = []
    for group in (*spec.groups, None):
        name = OTHERS if group is None else group.name
        weights = [one.parameter for one in found[name]]
        trained = [] if group is not None and group.frozen else weights
        trained = [weight for weight in trained if weight.requires_grad]
        state = sum(
            state_bytes(weight, updated_by(weight, group, without_decay), group)
            for weight in trained
        )
        if weights:
            told.append(
                GroupMemory(
                    name,
                    "frozen" if not trained else "adamw" if group is None else group.optimiser,
                    sum(weight.numel() for weight in weights),
                    _bytes(weights),
                    _bytes(trained),
                    state,
                )
            )
    return tuple(told)


def state_bytes(weight: nn.Parameter, kind: str, group: GroupSpec | None) -> int:
    """Return what an optimiser, by its name in settings, remembers of one weight."""
    own = weight.numel() * weight.element_size()
    if kind == "sgd":
        return own if group is not None and group.momentum > 0 else 0
    if kind in ("lion", "muon"):
        return own
    if kind == "schedule_free":
        return 2 * own
    if kind == "adafactor":
        if weight.ndim < 2:
            return own + _COUNTER_BYTES
        *outer, rows, columns = weight.shape
        return math.prod(outer) * (rows + columns) * weight.element_size() + _COUNTER_BYTES
    return 2 * own + _COUNTER_BYTES


def _bytes(weights: Sequence[nn.Parameter]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)
