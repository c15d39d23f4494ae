"""Several linear maps of one input whose weights stand one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def each_of(project: nn.Module, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Map (..., in) by each of the joined maps: a tensor (..., size) of its own for each of ``sizes``.

    Outputs of their own are read and written in one piece by what follows, forward and backward; halves of one wide
    output are not, and their gradients have to be joined first. A map that has something beside it, such as a low-rank
    pair, is called, and its output is split.
    """
    if type(project) is not nn.Linear:
        return torch.split(project(x), list(sizes), dim=-1)
    weights = torch.split(project.weight, list(sizes))
    if project.bias is None:
        return tuple(F.linear(x, weight) for weight in weights)
    biases = torch.split(project.bias, list(sizes))
    return tuple(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
