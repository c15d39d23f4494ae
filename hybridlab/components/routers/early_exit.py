"""Early exit: scores on the way, where a sample that is sure enough may leave."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    BuildContext,
    Component,
    Exit,
    State,
    component,
    field,
    float_dtype,
)
from hybridlab.components.heads.pooling import Pool, final_norm, pool
from hybridlab.components.root_mean_square import RootMeanSquare


class Beside(torch.autograd.Function):
    """Gives x as it is. What stands beside it gets a gradient of zero from here, so that it is part of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beside: Tensor) -> Tensor:
        """Return x."""
        ctx.like = (beside.shape, beside.dtype, beside.device)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Pass the gradient to x, and zeros to the other."""
        shape, dtype, device = ctx.like
        return grad, torch.zeros(shape, dtype=dtype, device=device)


@component(
    "early_exit",
    kind="router",
    title="Early exit",
    summary="Scores the classes on the way; a sample that is sure of its class goes no further.",
    cost="linear",
    paper="https://arxiv.org/abs/1709.01686",
)
class EarlyExit(Component):
    """The input itself, (B, L, D) to (B, L, D), and beside it ``W norm(x) + b``: scores of its own.

    In training every exit has a loss, that of the task on its scores, as BranchyNet has it. Afterwards
    a sample ends at the first exit whose certainty reaches the threshold: the largest probability, or one
    minus the entropy over that of equal chances. What comes later runs on the other samples alone. With
    scores at every position (CALM, https://arxiv.org/abs/2207.07061) a sample leaves as a whole, when
    its least certain position is sure. One position at a time nothing leaves: later layers need a state.
    """

    class Params(base.Params):
        """Parameters of ``early_exit``."""

        outputs: int = field(
            10, help="Classes or tokens to score, as many as the head has.", ge=1, le=1_000_000
        )
        over: Literal["sequence", "position"] = field(
            "sequence", help="Score each sequence, as a classifier, or each position."
        )
        pool: Pool = field("mean", help="What stands for a whole sequence, as in the classifier.")
        certainty: Literal["probability", "entropy"] = field(
            "probability",
            help="What is held against the threshold: the largest probability, or 1 - entropy / log N.",
            search=["probability", "entropy"],
        )
        threshold: float | None = field(
            0.9,
            help="Certainty from which on a sample leaves; empty: it never does.",
            ge=0,
            le=1,
            search=[0.7, 0.9, 0.99],
        )
        loss_weight: float = field(
            0.3, help="Weight of this exit's loss beside that of the last layer.", ge=0, le=10
        )
        norm: bool = field(True, help="Normalise the sequence first; needed after pre-norm blocks.")

    params: Params
    takes_ends = True

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the norm and the map to scores."""
        super().__init__(params, context)
        self.norm = final_norm(params.norm, context.features)
        self.scores = nn.Linear(context.features, params.outputs)
        self._logits: Tensor | None = None
        self._ends_B: Tensor | None = None

    def forward(self, x_BLD: Tensor, ends_B: Tensor | None = None) -> Tensor:
        """Return (B, L, D) as it is and keep its scores, (B, N) or (B, L, N); what is behind an end has no say."""
        self._ends_B = ends_B
        logits: Tensor = self.norm(x_BLD)
        if self.params.over == "sequence":
            logits = pool(logits, self.params.pool, ends_B)
        self._logits = logits = self.scores(logits)
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return x_BLD
        y_BLD: Tensor = Beside.apply(x_BLD, logits)  # type: ignore[no-untyped-call]
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the scores as written, and add nothing times them to what came in."""
        (x_BLD,) = inputs
        wide = float_dtype(x_BLD)
        logits: Tensor = x_BLD.to(wide)
        if isinstance(self.norm, RootMeanSquare):
            size_BL1 = (logits.square().mean(-1, keepdim=True) + self.norm.eps).sqrt()
            logits = logits / size_BL1 * self.norm.scale
        if self.params.over == "sequence":
            logits = pool(logits, self.params.pool)
        self._logits = logits = logits @ self.scores.weight.T.to(wide) + self.scores.bias
        return x_BLD + (0 * logits.sum()).to(x_BLD.dtype)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Return one position as it is; nothing leaves here."""
        return inputs_BD[0], ()

    def exit(self) -> Exit | None:
        """Return the scores of the last forward, and which samples are sure enough to leave."""
        if self._logits is None:
            return None
        threshold = self.params.threshold
        sure_B = torch.zeros(len(self._logits), dtype=torch.bool, device=self._logits.device)
        if threshold is not None:
            sure_B = self.certainty() >= threshold
        return Exit(self._logits, sure_B, self.params.loss_weight)

    def certainty(self) -> Tensor:
        """Return how sure the last forward's scores are of each sample, (B) from 0 to 1."""
        assert self._logits is not None, "nothing has been scored yet"
        p = self._logits.detach().float().softmax(-1)
        if self.params.certainty == "probability":
            sure = p.amax(-1)
        else:
            most = max(math.log(p.shape[-1]), 1e-9)
            sure = 1 - torch.special.entr(p).sum(-1) / most
        if sure.dim() == 1:
            return sure
        if self._ends_B is not None:
            positions_L = torch.arange(sure.shape[1], device=sure.device)
            sure = sure.masked_fill(positions_L >= self._ends_B[:, None], 1.0)
        return sure.flatten(1).amin(1)

    def report(self) -> dict[str, float | list[float]]:
        """Return the share of the last forward's samples that were sure enough to leave (``sure``)."""
        found = self.exit()
        return {} if found is None else {"sure": float(found.sure.float().mean())}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_logits": None, "_ends_B": None}

    @classmethod
    def exit_shape(cls, params: Params, context: BuildContext) -> tuple[str | int, ...]:
        """Return (B, N), or (B, L, N) where each position is scored."""
        length = context.inputs[0].shape[1:2] if params.over == "position" else ()
        return ("B", *length, params.outputs)
