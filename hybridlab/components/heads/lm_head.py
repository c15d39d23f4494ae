"""Language-model head: scores for the next token at every position."""

from __future__ import annotations

from collections.abc import Mapping

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
    """Sequence (B, L, D) to logits (B, L, N).

    Its weights are its own unless ``tied``, as https://arxiv.org/abs/1608.05859 has it. Factor and
    cap follow the product: ``cap tanh(scale x W / cap)``, https://arxiv.org/abs/2408.00118.
    """

    class Params(base.Params):
        """Parameters of ``lm_head``."""

        vocab: int = field(256, help="Number of different tokens.", ge=1, le=1_000_000)
        norm: bool = field(True, help="Normalise the sequence first; needed after pre-norm blocks.")
        tied: bool = field(False, help="Share the table of the token embedding.")
        bias: bool = field(False, help="Add a learned number to each token's score.")
        scale: float = field(1.0, help="Factor on the scores.", gt=0, le=1e4)
        soft_cap: float | None = field(
            None, help="Bend scores so that they stay below this; empty: no cap.", gt=0, le=1e4
        )

    params: Params
    gives = TensorKind.LOGITS

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the final norm and the unembedding."""
        super().__init__(params, context)
        self.norm = final_norm(params.norm, context.features)
        self.unembedding = nn.Linear(context.features, params.vocab, bias=params.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Score tokens at each position of (B, L, D); gives (B, L, N)."""
        logits_BLN: Tensor = self.unembedding(self.norm(x_BLD))
        if self.params.scale != 1:
            logits_BLN = logits_BLN * self.params.scale
        if self.params.soft_cap is not None:
            logits_BLN = (logits_BLN / self.params.soft_cap).tanh() * self.params.soft_cap
        return logits_BLN

    @classmethod
    def borrows(cls, params: Params) -> Mapping[str, str]:
        """Take the token embedding's table where it is tied."""
        return {"unembedding.weight": "token_table"} if params.tied else {}
