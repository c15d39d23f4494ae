"""Samples that leave a forward at an exit on the way, and the same by computing everything and choosing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hybridlab.architecture.plan import SlotPlan
from hybridlab.components.base import Exit
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem


class EveryoneLeftError(Exception):
    """Nobody is left to run what follows; caught where the forward began."""


@dataclass
class Leaving:
    """Which samples of a batch still run, and what those that left took with them."""

    rows: Tensor | None = None
    """The places in the batch of the samples that still run; None while nobody has left."""
    taken: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Places and scores of those that left at each exit."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many left, by the exit's path."""

    def at(self, path: str, exit: Exit, holders: Sequence[dict[str, Tensor]]) -> None:
        """Let those that are sure leave, and drop their rows from every tensor that is held.

        Raises:
            EveryoneLeftError: nobody stays.
        """
        count = int(exit.sure.sum())
        self.counts[path] = self.counts.get(path, 0) + count
        if not count:
            return
        rows = self.rows
        if rows is None:
            rows = torch.arange(len(exit.sure), device=exit.sure.device)
        stay_B = ~exit.sure
        self.taken.append((rows[exit.sure], exit.logits[exit.sure]))
        self.rows = rows[stay_B]
        if count == len(stay_B):
            raise EveryoneLeftError
        for held in holders:
            for name, tensor in held.items():
                held[name] = tensor[stay_B]

    def joined(self, last: Tensor | None) -> Tensor:
        """Return the scores of all samples in their order; ``last`` are those of who went to the end."""
        if self.rows is None:
            assert last is not None
            return last
        parts = list(self.taken)
        if last is not None:
            parts.append((self.rows, last))
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return torch.cat([scores for _, scores in parts])[order]


def chosen(last: Tensor, exits: Sequence[Exit]) -> Tensor:
    """Return for each sample the scores of the first exit that it is sure at, else the last ones; all were computed."""
    for exit in reversed(exits):
        sure = exit.sure.view(-1, *[1] * (last.dim() - 1))
        last = torch.where(sure, exit.logits, last)
    return last


def exit_problems(slots: Mapping[str, SlotPlan], output: TensorType | None) -> Iterator[Problem]:
    """Yield the exits whose scores are not of the last node's shape; nothing where no head is there yet."""
    if output is None or output.kind is not TensorKind.LOGITS:
        return
    for plan in slots.values():
        shape = plan.info.cls.exit_shape(plan.params, plan.context)
        if shape is not None and shape != output.shape:
            yield Problem(
                f"{plan.file_path}.outputs",
                "the scores of this exit are not of the shape of the last node's",
                ", ".join(map(str, output.shape)),
                ", ".join(map(str, shape)),
                "score as many classes, over sequence or position as the head does",
            )
