"""Classifier head: one class for the whole sequence."""

from __future__ import annotations

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.heads.pooling import Pool, final_norm, pool
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError


@component(
    "classifier",
    kind="head",
    title="Classifier",
    summary="Pools the sequence and scores every class.",
    cost="linear",
    paper="https://arxiv.org/abs/2010.11929",
)
class Classifier(Component):
    """``pool(norm(x)) W + b``: sequence (B, L, D) to class logits (B, N)."""

    class Params(base.Params):
        """Parameters of ``classifier``."""

        classes: int = field(10, help="Number of classes.", ge=1, le=1_000_000)
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
        """Create the final norm and the map to classes."""
        super().__init__(params, context)
        self.norm = final_norm(params.norm, context.features)
        self.classes = nn.Linear(context.features, params.classes)

    def forward(self, x_BLD: Tensor, ends_B: Tensor | None = None) -> Tensor:
        """Score the classes of each sequence (B, L, D), up to its end; gives (B, N)."""
        logits_BN: Tensor = self.classes(pool(self.norm(x_BLD), self.params.pool, ends_B))
        return logits_BN

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Raise StepError: the head reads the whole sequence at once."""
        raise StepError("a head over the whole sequence cannot run one position at a time")
