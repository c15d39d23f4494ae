"""Modern Hopfield layer: every position is drawn towards the learned patterns that it resembles."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    BuildContext,
    Component,
    component,
    field,
    must_divide,
    undecayed,
)
from hybridlab.errors import Problem

EPS = 1e-6


@component(
    "hopfield",
    kind="channel_mixer",
    title="Hopfield memory",
    summary="Draws every position towards the stored patterns that it resembles most.",
    cost="linear",
    paper="https://arxiv.org/abs/2008.02217",
)
class Hopfield(Component):
    """Retrieval from M learned patterns per head, (B, L, D) to (B, L, D), each position on its own.

    The state z = x Wq of a head is updated ``z <- X softmax(beta X^T z)``, which lowers the energy of a modern
    Hopfield network. The patterns X lie on the sphere of radius sqrt(K), as in the paper's theory, so their
    learned vectors matter by direction alone.
    """

    class Params(base.Params):
        """Parameters of ``hopfield``."""

        patterns: int = field(
            64,
            help="Stored patterns of each head.",
            ge=1,
            le=65_536,
            search=[16, 64, 256],
        )
        heads: int = field(4, help="Heads, each with patterns of its own.", ge=1, le=1024)
        updates: int = field(
            1, help="Updates of the state; one is usually enough.", ge=1, le=32, search=[1, 2, 3]
        )
        beta: float | None = field(
            None,
            help="Sharpness of retrieval, from an average to the nearest pattern; empty: 1 / "
            "sqrt(head size).",
            gt=0,
            le=10_000,
        )
        separate: bool = field(
            False, help="Read out other patterns than those compared, as keys and values."
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps and the patterns (H, K, M), which start in random directions."""
        super().__init__(params, context)
        size = context.width // params.heads
        self.project_in = nn.Linear(context.features, context.width, bias=False)
        self.project_out = nn.Linear(context.width, context.width, bias=False)
        stored_HKM = torch.randn(1 + params.separate, params.heads, size, params.patterns)
        stored_HKM = stored_HKM / math.sqrt(size)
        self.stored = undecayed(nn.Parameter(stored_HKM[0]))
        self.read_out = undecayed(nn.Parameter(stored_HKM[1])) if params.separate else None
        self.beta = params.beta or size**-0.5

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Retrieve for each position of (B, L, D).

        All positions of all sequences are queries of one attention, whose keys are the patterns.
        """
        z_1HNK = torch.unflatten(self.project_in(x_BLD).flatten(0, 1), -1, (self.params.heads, -1))
        z_1HNK = z_1HNK.transpose(0, 1).unsqueeze(0)
        stored_1HMK = _on_sphere(self.stored)
        read_1HMK = stored_1HMK if self.read_out is None else _on_sphere(self.read_out)
        for update in range(self.params.updates):
            last = update == self.params.updates - 1
            z_1HNK = F.scaled_dot_product_attention(
                z_1HNK, stored_1HMK, read_1HMK if last else stored_1HMK, scale=self.beta
            )
        retrieved_ND = z_1HNK.squeeze(0).transpose(0, 1).flatten(1)
        y_BLD: Tensor = self.project_out(torch.unflatten(retrieved_ND, 0, x_BLD.shape[:2]))
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Update each head's state as the formula has it."""
        (x_BLD,) = inputs
        heads = []
        for head, z_BLK in enumerate(self.project_in(x_BLD).chunk(self.params.heads, dim=-1)):
            stored_KM, read_KM = (
                weights[head] / (weights[head].square().mean(0, keepdim=True) + EPS).sqrt()
                for weights in (
                    self.stored,
                    self.stored if self.read_out is None else self.read_out,
                )
            )
            for update in range(self.params.updates):
                energies_BLM = self.beta * torch.einsum("blk,km->blm", z_BLK, stored_KM)
                shares_BLM = energies_BLM.softmax(-1)
                last = update == self.params.updates - 1
                z_BLK = torch.einsum("blm,km->blk", shares_BLM, read_KM if last else stored_KM)
            heads.append(z_BLK)
        y_BLD: Tensor = self.project_out(torch.cat(heads, dim=-1))
        return y_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width."""
        yield from must_divide("heads", params.heads, context.width, "width")


def _on_sphere(weights_HKM: Tensor) -> Tensor:
    """Return patterns (1, H, M, K) of root mean square one."""
    weights_HMK = weights_HKM.transpose(1, 2)
    return F.rms_norm(weights_HMK, weights_HMK.shape[-1:], eps=EPS).unsqueeze(0)
