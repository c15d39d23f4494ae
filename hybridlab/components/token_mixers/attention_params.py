"""The parameters of ``attention``, and what ranges alone cannot say of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hybridlab.components import base
from hybridlab.components.base import BuildContext, field, must_divide
from hybridlab.components.rotary import RotaryParams, rotary_problems
from hybridlab.errors import Problem


class HeadParams(base.Params):
    """How many heads of which size see what."""

    heads: int = field(4, help="Query heads.", ge=1, le=1024, search=[1, 2, 4, 8])
    kv_heads: int | None = field(
        None,
        help="Key and value heads, shared by groups of query heads; empty: as many as heads.",
        ge=1,
        le=1024,
        search=[1, 2, 4],
    )
    head_dim: int | None = field(
        None, help="Features of a head; empty: width / heads.", ge=1, le=4096, unit="features"
    )
    window: int | None = field(
        None,
        help="Positions a query sees, itself included (to each side where not causal); empty: all.",
        ge=1,
        le=1_048_576,
        unit="positions",
        search=[16, 64, 256],
    )
    causal: bool = field(True, help="Hide later positions; off for images and encoders.")


class AttentionParams(RotaryParams, HeadParams):
    """The parameters of ``attention``: heads, rotary positions, and what published models add."""

    rotary_share: float = field(
        1.0, help="Share of a head's features that turn; the first ones.", gt=0, le=1
    )
    alibi: bool = field(
        False, help="Lower scores by distance, by each head's slope, in place of rotary positions."
    )
    qk_norm: bool = field(False, help="Normalise queries and keys; steadies training.")
    qk_norm_over: Literal["head", "all"] = field(
        "head", help="Normalise each head, or all heads' features together, as OLMo 2."
    )
    norm_eps: float = field(
        1e-6, help="Added to the mean square before the root in these norms.", gt=0, le=0.1
    )
    conv: int = field(
        0,
        help="Taps of a short convolution on queries, keys and values; 0: none.",
        ge=0,
        le=64,
        unit="positions",
        search=[0, 4],
    )
    scale: float | None = field(
        None,
        help="Factor on scores before the softmax; empty: 1 / sqrt(head size).",
        gt=0,
        le=1000,
    )
    soft_cap: float | None = field(
        None, help="Bound c of scores, c tanh(score / c), as Gemma 2; empty: none.", gt=0, le=10_000
    )
    sinks: bool = field(
        False, help="A learned score per head that takes weight and brings nothing, as gpt-oss."
    )
    bias: bool = field(False, help="A learned shift of queries, keys and values.")
    out_bias: bool = field(False, help="A learned shift of the output.")
    output_gate: bool = field(
        False, help="Gate what the heads give by a sigmoid of the input, as Qwen3-Next."
    )

    def head_size(self, width: int) -> int:
        """Return the features of a head."""
        return self.head_dim or width // self.heads

    def turning(self, width: int) -> int:
        """Return how many of a head's features turn."""
        return int(self.head_size(width) * self.rotary_share)


def attention_problems(params: AttentionParams, context: BuildContext) -> Iterator[Problem]:
    """Yield a problem where heads do not divide, or positions do not fit the heads or each other."""
    if params.head_dim is None:
        yield from must_divide("heads", params.heads, context.width, "width")
    if params.kv_heads is not None:
        yield from must_divide("kv_heads", params.kv_heads, params.heads, "heads")
    if params.rotary and params.alibi:
        yield Problem(
            "alibi",
            "ALiBi takes the place of rotary positions",
            "one of the two",
            "both",
            "set rotary: false, or alibi: false",
        )
    yield from rotary_problems(params)
    size, turning = params.head_size(context.width), params.turning(context.width)
    if params.rotary and params.rotary_share == 1.0 and size % 2:
        yield Problem(
            "head_dim" if params.head_dim else "heads",
            f"rotary positions turn pairs of features, but a head has {size}",
            "an even head size",
            str(size),
            "set rotary: false, or change heads or head_dim",
        )
    elif params.rotary and (turning % 2 or not turning):
        yield Problem(
            "rotary_share",
            f"rotary positions turn pairs of features, but {params.rotary_share:g} of a head's "
            f"{size} features is {turning}",
            "an even number of features",
            str(turning),
            f"try {2 * max(1, turning // 2) / size:g}" if size > 1 else "set rotary: false",
        )
