"""Regressor head: numbers for the whole sequence."""

from __future__ import annotations

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.heads.pooling import Pool, final_norm, pool
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError


@component(
    "regressor",
    kind="head",
    title="Regressor",
    summary="Pools the sequence and gives one or more real numbers.",
    cost="linear",
    paper="https://arxiv.org/abs/2211.14730",
)
class Regressor(Component):
    """``pool(norm(x)) W + b``: sequence (B, L, D) to numbers (B, N)."""

    class Params(base.Params):
        """Parameters of ``regressor``."""

        outputs: int = field(1, help="How many numbers to give.", ge=1, le=1_000_000)
        pool: Pool = field(
            "mean",
            help="What stands for the whole sequence: the mean over positions, the last or the "
            "first. The first position of a causal model has seen nothing else.",
            search=["mean", "last"],
        )
        norm: bool = field(True, help="Normalise the sequence first; needed after pre-norm blocks.")

    params: Params
    gives = TensorKind.LOGITS
    takes_ends = True

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the final norm and the map to the numbers."""
        super().__init__(params, context)
        self.norm = final_norm(params.norm, context.features)
        self.outputs = nn.Linear(context.features, params.outputs)

    def forward(self, x_BLD: Tensor, ends_B: Tensor | None = None) -> Tensor:
        """Predict numbers for each sequence (B, L, D), up to its end; gives (B, N)."""
        numbers_BN: Tensor = self.outputs(pool(self.norm(x_BLD), self.params.pool, ends_B))
        return numbers_BN

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Raise StepError: the head reads the whole sequence at once."""
        raise StepError("a head over the whole sequence cannot run one position at a time")
