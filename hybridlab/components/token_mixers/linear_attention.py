"""Linear attention: softmax replaced by a feature map, so that the past fits in a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, component, field, must_divide
from hybridlab.components.token_mixers.matrix_mixer import MatrixMixer, Sizes, Written
from hybridlab.errors import Problem

SMALLEST_SUM = 1e-6

FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: F.elu(x) + 1,
    "relu": F.relu,
    "softmax": lambda x: x.softmax(-1),
    "identity": lambda x: x,
}
SIGNED = ("identity",)


@component(
    "linear_attention",
    kind="token_mixer",
    title="Linear attention",
    summary="Attention without softmax: the whole past in one matrix a head, at a cost linear in length.",
    cost="linear",
    paper="https://arxiv.org/abs/2006.16236",
)
class LinearAttention(MatrixMixer):
    """Causal linear attention, (B, L, D) to (B, L, D); H heads with states of K x V numbers.

    ``S_t = S_(t-1) + f(k_t) v_t'``, ``z_t = z_(t-1) + f(k_t)`` and ``o_t = f(q_t) S_t / f(q_t) z_t``, with the feature
    map ``f``; without the normaliser ``o_t = f(q_t) S_t / sqrt(K)``. The normaliser is one more column of the state.
    """

    class Params(base.Params):
        """Parameters of ``linear_attention``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        key_dim: int | None = field(
            None, help="Features of a key; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        feature_map: Literal["elu", "relu", "softmax", "identity"] = field(
            "elu",
            help="What queries and keys pass: elu + 1, relu, softmax over their features, or nothing.",
            search=["elu", "relu", "softmax"],
        )
        normalise: bool = field(
            True, help="Divide by the sum of weights, so that they add up to one as in attention."
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
        heads, key, _, _ = self.sizes(params, context.width)
        self.parts, self.others = [heads * key, heads * key, context.width], []
        self.conv = None
        self.project_in = nn.Linear(context.features, sum(self.parts), bias=False)
        self.project_out = nn.Linear(context.width, context.width, bias=False)

    @classmethod
    def sizes(cls, params: Params, width: int) -> Sizes:
        """Return the size of the memory, the normaliser included."""
        size = width // params.heads
        return Sizes(params.heads, params.key_dim or size, size + params.normalise)

    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return the features of queries and keys, and values, with a column of ones where weights are summed."""
        q_BLHK, k_BLHK, v_BLHV = (
            torch.unflatten(part, -1, (self.params.heads, -1))
            for part in torch.split(mixed_BLM, self.parts, dim=-1)
        )
        features = FEATURES[self.params.feature_map]
        q_BLHK, k_BLHK = features(q_BLHK), features(k_BLHK)
        if self.params.normalise:
            v_BLHV = F.pad(v_BLHV, (0, 1), value=1.0)
        return Written(q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, v_BLHV)

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Divide by the sum of weights where asked."""
        if self.params.normalise:
            o_BLHV, sums_BLH1 = o_BLHV[..., :-1], o_BLHV[..., -1:]
            o_BLHV = o_BLHV / (sums_BLH1 + SMALLEST_SUM)
        return o_BLHV.flatten(2)

    def mixing_matrix(self, *inputs: Tensor) -> Tensor:
        """Return f(q_t) f(k_s), divided by the sum over s where asked, (B, H, L, L)."""
        matrix_BHLL = super().mixing_matrix(*inputs)
        if not self.params.normalise:
            return matrix_BHLL
        return matrix_BHLL / (matrix_BHLL.sum(-1, keepdim=True) + SMALLEST_SUM)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width, or weights of both signs are to add up to one."""
        yield from must_divide("heads", params.heads, context.width, "width")
        if params.normalise and params.feature_map in SIGNED:
            yield Problem(
                "normalise",
                "weights of both signs can add up to nothing",
                "a feature map without negative values, or normalise: false",
                f"feature_map: {params.feature_map}",
                "set normalise: false, or feature_map: elu",
            )
