"""Sequence decoder: every token of a sequence, told from its last position alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError


@component(
    "sequence_decoder",
    kind="head",
    title="Sequence decoder",
    summary="Scores the token of every position from the last position alone.",
    cost="linear",
    paper="https://arxiv.org/abs/2403.17844",
)
class SequenceDecoder(Component):
    """Sequence (B, L, D) to logits (B, L, N), all of them from the last position.

    ``y_t = norm(g(g(x_last + p_t))) W`` with ``g(z) = gelu(norm(z) V + b)``, W and each V with an offset:
    to that vector the sines and cosines of a position are added; two layers with RMS norms and GELU, which do not mix
    positions, decode it. It is the paper's fixed decoder of compression: what it tells stood in one vector.
    """

    class Params(base.Params):
        """Parameters of ``sequence_decoder``."""

        vocab: int = field(256, help="Number of different tokens.", ge=1, le=1_000_000)

    params: Params
    gives = TensorKind.LOGITS

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the two layers and the unembedding, each behind a norm."""
        super().__init__(params, context)
        features = context.features
        self.first_norm = RootMeanSquare(features)
        self.first = nn.Linear(features, features)
        self.second_norm = RootMeanSquare(features)
        self.second = nn.Linear(features, features)
        self.norm = RootMeanSquare(features)
        self.unembedding = nn.Linear(features, params.vocab)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Score the tokens of all positions from the last of (B, L, D); gives (B, L, N)."""
        positions_LD = sines_and_cosines(x_BLD.shape[1], x_BLD.shape[2], x_BLD)
        y_BLD = x_BLD[:, -1:] + positions_LD
        y_BLD = F.gelu(self.first(self.first_norm(y_BLD)))
        y_BLD = F.gelu(self.second(self.second_norm(y_BLD)))
        logits_BLN: Tensor = self.unembedding(self.norm(y_BLD))
        return logits_BLN

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Raise StepError: the head reads the whole sequence at once."""
        raise StepError("a head over the whole sequence cannot run one position at a time")

    @classmethod
    def heeds_end(cls, params: Params) -> bool:
        """The last position is all that it reads."""
        return True


def sines_and_cosines(length: int, features: int, like: Tensor) -> Tensor:
    """Return positions (L, D): sines, then cosines, of wavelengths from 2 pi to 20,000 pi."""
    half = (features + 1) // 2
    exponent_F = torch.arange(half, device=like.device) / max(1, half - 1)
    angle_LF = torch.arange(length, device=like.device)[:, None] * 10_000.0**-exponent_F
    return torch.cat([angle_LF.sin(), angle_LF.cos()], dim=1)[:, :features].to(like.dtype)
