"""Samples of several lengths in one batch: components run so that padding behind a sample's end has no say in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import Component
from hybridlab.components.lengths import concrete, share_of
from hybridlab.components.types import TensorType

ENDS = "ends"


class Padding:
    """Where the samples of one forward end, and how components run on them.

    What sees nothing later runs on all as it is, and what takes ends is given them. Any other component runs on the
    samples of each length by themselves, at that length; zeros then stand behind the ends.
    """

    def __init__(self, ends_B: Tensor) -> None:
        """Keep how many positions of each sample are its own (B), of those that the model is given."""
        self.held = {ENDS: ends_B}
        """The ends of the samples that still run."""
        self._asked: list[Tensor] | None = None

    def around(self, body: Component, output: TensorType) -> Callable[..., Tensor]:
        """Return what runs a component, whose output has a type, on these samples."""
        self._asked = None
        read = body.context.inputs[0].shape[1]
        if not isinstance(read, str):
            return body  # a picture's patches, say: all of them are the sample's own
        if body.takes_ends:
            share, ends_B = share_of(read), self.held[ENDS]
            return lambda *inputs: body(*inputs, -(-ends_B * share.numerator // share.denominator))
        if not body.heeds_end(body.params):
            return body
        return lambda *inputs: self._each_length(body, output, inputs)

    def asked(self, body: Component) -> Tensor | None:
        """Return the loss that the component asks for which ran last (scalar), of all lengths by their positions."""
        if self._asked is None:
            return body.aux_loss()
        return torch.stack(self._asked).sum() if self._asked else None

    def _each_length(self, body: Component, output: TensorType, inputs: Sequence[Tensor]) -> Tensor:
        """Run the samples of each length together, at that length, and put all back in their order."""
        ends_B, self._asked = self.held[ENDS], []
        whole = _positions(body, output, inputs)
        total, places, parts = int(ends_B.sum()), [], []
        for end in sorted(set(ends_B.tolist())):
            rows_b = (ends_B == end).nonzero().squeeze(-1)
            y = body(
                *(
                    x.index_select(0, rows_b)[:, : concrete(type_.shape[1], end)]
                    for x, type_ in zip(inputs, body.context.inputs, strict=True)
                )
            )
            if body.training and (loss := body.aux_loss()) is not None:
                self._asked.append(loss * (len(rows_b) * end / total))
            if whole is not None:
                y = F.pad(y, (0, 0) * (y.dim() - 2) + (0, whole - y.shape[1]))
            places.append(rows_b)
            parts.append(y)
        return torch.cat(parts).index_select(0, torch.cat(places).argsort())


def _positions(body: Component, output: TensorType, inputs: Sequence[Tensor]) -> int | None:
    """Return how many positions a component gives of a padded batch; None where its output has none."""
    length = output.shape[1] if len(output.shape) > 2 else None
    if not isinstance(length, str):
        return None
    for x, type_ in zip(inputs, body.context.inputs, strict=True):
        if type_.shape[1] == length:
            return x.shape[1]
    share = share_of(length) / share_of(str(body.context.inputs[0].shape[1]))
    return -(-inputs[0].shape[1] * share.numerator // share.denominator)
