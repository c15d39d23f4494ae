"""A low-rank pair beside a linear map, for one use of weights that several places share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptedLinear(nn.Module):
    """``x W^T + b`` with ``(x A^T) B^T`` added: (..., in) to (..., out), https://arxiv.org/abs/2106.09685.

    Where W joins several maps, one below the other, each has a pair of its own. B starts at zero, so that a use begins
    as what it shares. W is kept as ``weight``; who asks for that, to use the map otherwise than by calling it, gets
    W + B A.
    """

    down: nn.Parameter
    up: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, of: nn.Linear, rank: int, rows: tuple[int, ...]) -> None:
        """Keep the map's own weights, and draw A (rank per joined map, in); ``rows`` are those of each joined map."""
        super().__init__()
        self.rank = rank
        self.rows = rows
        self._parameters["weight"] = cast(nn.Parameter, of.weight)
        self.register_parameter("bias", of.bias)
        self.down = nn.Parameter(of.weight.new_empty(len(rows) * rank, of.in_features))
        self.up = nn.Parameter(of.weight.new_zeros(of.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """W + B A, (out, in)."""
        ups = torch.split(self.up, list(self.rows))
        downs = torch.split(self.down, self.rank)
        return self._shared + torch.cat([up @ down for up, down in zip(ups, downs, strict=True)])

    @property
    def _shared(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        narrow = torch.split(F.linear(x, self.down), self.rank, dim=-1)
        ups = torch.split(self.up, list(self.rows))
        added = [F.linear(part, up) for part, up in zip(narrow, ups, strict=True)]
        return F.linear(x, self._shared, self.bias) + torch.cat(added, dim=-1)


def adapted(body: nn.Module, rank: int, maps: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """Put a low-rank pair beside linear maps of a component, named by their paths in it; return the component."""
    for path, rows in maps.items():
        holder, _, name = path.rpartition(".")
        linear = body.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        setattr(body.get_submodule(holder), name, AdaptedLinear(linear, rank, rows))
    return body
