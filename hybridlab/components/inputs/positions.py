"""Learned positions, shared by the inputs that offer them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridlab.components.base import State
from hybridlab.errors import Problem


class LearnedPositions(nn.Module):
    """Adds a learned vector per position to (B, L, D); starts at a fifth of an embedding's scale.

    Positions past the table share its last vector, so that a model can be tried on longer sequences
    than it was made for.
    """

    def __init__(self, max_length: int, width: int) -> None:
        """Create a table of ``max_length`` vectors of ``width`` features."""
        super().__init__()
        self.table = nn.Embedding(max_length, width)
        nn.init.normal_(self.table.weight, std=0.2)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Add the vectors of positions 0 to L - 1 to (B, L, D)."""
        index_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        positions_LD: Tensor = self.table(index_L.clamp(max=self.table.num_embeddings - 1))
        return x_BLD + positions_LD

    def start(self) -> State:
        """Return position 0."""
        return (torch.zeros((), dtype=torch.int64, device=self.table.weight.device),)

    def step(self, state: State, x_BD: Tensor) -> tuple[Tensor, State]:
        """Add the vector of the state's position to (B, D)."""
        (position,) = state
        vector_D: Tensor = self.table(position.clamp(max=self.table.num_embeddings - 1))
        return x_BD + vector_D, (position + 1,)

    @staticmethod
    def check(max_length: int, length: str | int) -> Iterator[Problem]:
        """Yield a warning where a known length exceeds ``max_length``."""
        if isinstance(length, int) and length > max_length:
            yield Problem(
                "max_length",
                "the positions past the learned ones share one vector",
                f"at least {length}",
                str(max_length),
                f"set max_length to {length}",
                severity="warning",
            )
