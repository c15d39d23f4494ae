"""Token embedding: a vector for every symbol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.inputs.positions import LearnedPositions
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem


@component(
    "token_embedding",
    kind="input",
    title="Token embedding",
    summary="Looks up a learned vector for every token.",
    cost="linear",
    paper="https://arxiv.org/abs/1301.3781",
)
class TokenEmbedding(Component):
    """Token ids (B, L) to vectors (B, L, D), optionally with a learned vector for each position.

    ``y_t = scale E[token_t] + p_t``, with E the table and p the positions, where there are some.
    The table starts as N(0, 1): a token is a one-hot vector, so its fan-in is 1. A smaller start
    leaves the residual stream to the random outputs of the first blocks and slows recall tasks.
    """

    class Params(base.Params):
        """Parameters of ``token_embedding``."""

        vocab: int = field(256, help="Number of different tokens.", ge=1, le=1_000_000)
        positions: bool = field(False, help="Add a learned vector for each position.")
        max_length: int = field(
            1024,
            help="Longest sequence that learned positions cover.",
            ge=1,
            le=1_048_576,
            unit="tokens",
        )
        scale: float = field(1.0, help="Factor on every token's vector.", gt=0, le=1e4)
        std: float = field(
            1.0,
            help="Standard deviation of the table at the start; small where the head shares it.",
            gt=0,
            le=100,
        )

    params: Params
    accepts = frozenset({TensorKind.TOKENS})

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the table and, if wanted, the positions."""
        super().__init__(params, context)
        self.table = nn.Embedding(params.vocab, context.width)
        if params.std != 1:
            nn.init.normal_(self.table.weight, std=params.std)
        self.positions = (
            LearnedPositions(params.max_length, context.width) if params.positions else None
        )

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Embed tokens (B, L), integers in [0, vocab), as (B, L, D)."""
        x_BLD = self._scaled(self.table(tokens_BL))
        return x_BLD if self.positions is None else self.positions(x_BLD)

    def start(self, batch: int) -> State:
        """Return the position, where positions are learned."""
        return () if self.positions is None else self.positions.start()

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Embed one token of each sequence, (B), as (B, D)."""
        (tokens_B,) = inputs_BD
        x_BD = self._scaled(self.table(tokens_B))
        if self.positions is None:
            return x_BD, ()
        return self.positions.step(state, x_BD)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Multiply one-hot vectors by the table."""
        (tokens_BL,) = inputs
        table_ND = self.table.weight
        one_hot_BLN = tokens_BL.unsqueeze(-1) == torch.arange(
            self.params.vocab, device=tokens_BL.device
        )
        x_BLD = one_hot_BLN.to(table_ND.dtype) @ table_ND * self.params.scale
        return x_BLD if self.positions is None else self.positions(x_BLD)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.params.scale == 1 else x * self.params.scale

    @classmethod
    def lends(cls, params: Params) -> Mapping[str, str]:
        """Lend the table, to a head that scores tokens by it."""
        return {"token_table": "table.weight"}

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the sequence is known to be longer than the positions."""
        if params.positions:
            yield from LearnedPositions.check(params.max_length, context.inputs[0].shape[1])
