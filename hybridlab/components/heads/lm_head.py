"""Language-model head: scores for the next token at every position."""

from __future__ import annotations

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.heads.pooling import final_norm
from hybridlab.components.types import TensorKind


@component(
    "lm_head",
    kind="head",
    title="Language-model head",
    summary="Scores every token of the vocabulary at every position.",
    cost="linear",
    paper="https://arxiv.org/abs/1706.03762",
)
class LMHead(Component):
    """Sequence (B, L, D) to logits (B, L, N); its weights are its own, not the embedding's."""

    class Params(base.Params):
        """Parameters of ``lm_head``."""

        vocab: int = field(256, help="Number of different tokens.", ge=1, le=1_000_000)
        norm: bool = field(True, help="Normalise the sequence first; needed after pre-norm blocks.")

    params: Params
    gives = TensorKind.LOGITS

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the final norm and the unembedding."""
        super().__init__(params, context)
        self.norm = final_norm(params.norm, context.features)
        self.unembedding = nn.Linear(context.features, params.vocab, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Score tokens at each position of (B, L, D); gives (B, L, N)."""
        logits_BLN: Tensor = self.unembedding(self.norm(x_BLD))
        return logits_BLN
