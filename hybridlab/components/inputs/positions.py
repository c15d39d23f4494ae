"""Learned positions, shared by the inputs that offer them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from hybridlab.errors import HybridLabError, Problem


class LearnedPositions(nn.Module):
    """Adds a learned vector per position to (B, L, D); starts at a fifth of an embedding's scale."""

    def __init__(self, max_length: int, width: int) -> None:
        """Create a table of ``max_length`` vectors of ``width`` features."""
        super().__init__()
        self.table = nn.Embedding(max_length, width)
        nn.init.normal_(self.table.weight, std=0.2)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Add the first L positions to (B, L, D).

        Raises:
            HybridLabError: the sequence is longer than the table.
        """
        length = x_BLD.shape[1]
        for problem in self.check(self.table.num_embeddings, length):
            raise HybridLabError(problem)
        return x_BLD + self.table.weight[:length]

    @staticmethod
    def check(max_length: int, length: str | int) -> Iterator[Problem]:
        """Yield a problem where a known length exceeds ``max_length``."""
        if isinstance(length, int) and length > max_length:
            yield Problem(
                "max_length",
                "the sequence is longer than the learned positions",
                f"at least {length}",
                str(max_length),
                f"set max_length to {length}",
            )
