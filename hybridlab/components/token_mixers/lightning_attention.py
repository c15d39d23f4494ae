"""Lightning attention: linear attention with fixed decays, as MiniMax has it beside softmax attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, component, field, float_dtype, must_divide
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.token_mixers.matrix_mixer import MatrixMixer, Sizes, Written
from hybridlab.errors import Problem

NORM_EPS = 1e-6


@component(
    "lightning_attention",
    kind="token_mixer",
    title="Lightning attention",
    summary="Linear attention with a fixed decay for each head and layer, as in MiniMax.",
    cost="linear",
    paper="https://arxiv.org/abs/2501.08313",
)
class LightningAttention(MatrixMixer):
    """Lightning attention, (B, L, D) to (B, L, D); H heads with states of K x K numbers.

    ``S_t = exp(-s) S_(t-1) + k_t v_t'`` and ``o_t = q_t S_t``, with queries, keys and values after swish and the slope
    ``s = scale 2^(-8h/H)`` for head h = 1 to H. The output is ``(sigmoid(x Wg) * norm(o)) Wo``, the norm (root mean
    square) over all heads.
    """

    class Params(base.Params):
        """Parameters of ``lightning_attention``."""

        heads: int = field(4, help="Heads, each with its own decay.", ge=1, le=1024, search=[2, 4])
        head_dim: int | None = field(
            None, help="Features of a head; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        scale: float = field(
            1.0,
            help="How fast all heads forget; MiniMax goes from 1 in its first layer to almost 0 in its last.",
            ge=0,
            le=10,
            search=[0.25, 0.5, 1.0],
        )
        chunk: int = field(
            64,
            help="Positions per matrix product, rounded up to a power of two; changes speed and "
            "memory, not the result.",
            ge=8,
            le=1024,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps, each with fan-in weights."""
        super().__init__(params, context)
        heads, size, _, _ = self.sizes(params, context.width)
        self.conv = None
        self.parts, self.others = 3 * [heads * size], [heads * size]
        self.project_in = nn.Linear(context.features, 4 * heads * size, bias=False)
        self.norm = RootMeanSquare(heads * size, NORM_EPS)
        self.project_out = nn.Linear(heads * size, context.width, bias=False)

    @classmethod
    def sizes(cls, params: Params, width: int) -> Sizes:
        """Return the size of the memory."""
        size = params.head_dim or width // params.heads
        return Sizes(params.heads, size, size)

    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return queries, keys, values, and the decay of each head (H)."""
        q_BLHK, k_BLHK, v_BLHK = torch.unflatten(
            F.silu(mixed_BLM), -1, (3, self.params.heads, -1)
        ).unbind(2)
        heads = self.params.heads
        heads_H = torch.arange(1, heads + 1, device=mixed_BLM.device, dtype=float_dtype(mixed_BLM))
        log_decay_H = -self.params.scale * torch.exp2(-8 * heads_H / heads)
        return Written(q_BLHK, k_BLHK, v_BLHK, log_decay_H)

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Normalise all heads together and gate."""
        normed_BLE: Tensor = self.norm(o_BLHV.flatten(2))
        return torch.sigmoid(others[0]) * normed_BLE

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width."""
        if params.head_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
