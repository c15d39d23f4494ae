"""Multi-head latent attention: keys and values of all heads come from one short vector per position."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    FLOAT32_BYTES,
    BuildContext,
    Component,
    State,
    component,
    field,
    float_dtype,
    must_divide,
)
from hybridlab.components.growing import appended
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.rotary import RotaryParams, rotary_problems, turned
from hybridlab.components.token_mixers.naive_attention import attend_row_by_row, turned_as_complex
from hybridlab.components.token_mixers.softmax_attention import attend
from hybridlab.errors import Problem, StepError


class _LatentParams(base.Params):
    heads: int = field(4, help="Heads.", ge=1, le=1024, search=[2, 4, 8])
    kv_rank: int = field(
        32,
        help="Features of the latent vector that stands for all keys and values.",
        ge=1,
        le=65_536,
        unit="features",
        search=[16, 32, 64],
    )
    query_rank: int | None = field(
        None,
        help="Features of a latent vector for queries; empty: queries come from the input.",
        ge=1,
        le=65_536,
        unit="features",
    )
    nope_dim: int | None = field(
        None,
        help="Features of a head's queries and keys without position; empty: width / heads.",
        ge=1,
        le=4096,
        unit="features",
    )
    rope_dim: int = field(
        8,
        help="Features that turn, of a key that all heads share; 0: none.",
        ge=0,
        le=4096,
        unit="features",
    )
    value_dim: int | None = field(
        None,
        help="Features of a head's values; empty: width / heads.",
        ge=1,
        le=4096,
        unit="features",
    )
    causal: bool = field(True, help="Hide later positions; off for images and encoders.")


@component(
    "latent_attention",
    kind="token_mixer",
    title="Latent attention",
    summary="Attention whose cache is one short vector per position, from which all heads read.",
    cost="quadratic",
    paper="https://arxiv.org/abs/2405.04434",
)
class LatentAttention(Component):
    """Multi-head latent attention of DeepSeek-V2, (B, L, D) to (B, L, D).

    ``c = norm(x Wd)`` is the latent vector of R features; head h has keys ``[c Uk_h, turned(x Wr)]`` and values
    ``c Uv_h``. While generating, only ``c`` and the shared rotary key are kept: since
    ``q (c Uk) = (q Uk^T) c``, queries are brought into the latent space instead of keys out of it.
    """

    class Params(RotaryParams, _LatentParams):
        """Parameters of ``latent_attention``."""

        rotary_pairs: bool = field(
            True, help="Turn features (2i, 2i + 1) together, as DeepSeek, not (i, i + half)."
        )
        scale: float | None = field(
            None,
            help="Factor on scores before the softmax; empty: 1 / sqrt(a head's key features).",
            gt=0,
            le=1000,
        )
        bias: bool = field(False, help="A learned shift of the latent vectors and the output.")
        norm_eps: float = field(
            1e-6, help="Added to the mean square before the root in the norms.", gt=0, le=0.1
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps down to the latent vectors, up to the heads, and out."""
        super().__init__(params, context)
        self.nope, self.rope, self.value = _sizes(params, context.width)
        queries = params.heads * (self.nope + self.rope)
        if params.query_rank is None:
            self.query: nn.Module = nn.Linear(context.features, queries, bias=False)
        else:
            self.query = nn.Sequential(
                nn.Linear(context.features, params.query_rank, bias=params.bias),
                RootMeanSquare(params.query_rank, params.norm_eps),
                nn.Linear(params.query_rank, queries, bias=False),
            )
        self.latent_down = nn.Linear(context.features, params.kv_rank + self.rope, bias=params.bias)
        self.latent_norm = RootMeanSquare(params.kv_rank, params.norm_eps)
        self.latent_up = nn.Linear(
            params.kv_rank, params.heads * (self.nope + self.value), bias=False
        )
        self.project_out = nn.Linear(params.heads * self.value, context.width, bias=params.bias)
        self.scale = params.scale or (self.nope + self.rope) ** -0.5

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        nope_BHLN, rope_BHLR = self._queries(x_BLD)
        latent_BLC, key_B1LR = self._latents(x_BLD)
        keys_BHLN, v_BHLV = self._expanded(latent_BLC)
        if self.rope:
            rope_BHLR, key_B1LR = self._turn(rope_BHLR, 0), self._turn(key_B1LR, 0)
        shared_BHLR = key_B1LR.expand(-1, self.params.heads, -1, -1)
        q_BHLK = torch.cat((nope_BHLN, rope_BHLR), dim=-1)
        k_BHLK = torch.cat((keys_BHLN, shared_BHLR), dim=-1)
        y_BHLV = attend(q_BHLK, k_BHLK, v_BHLV, causal=self.params.causal, scale=self.scale)
        return self._out(y_BHLV)

    def _queries(self, x_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries without (B, H, L, N) and with position (B, H, L, R), not yet turned."""
        q_BHLK = torch.unflatten(self.query(x_BLD), -1, (self.params.heads, -1)).transpose(1, 2)
        nope_BHLN, rope_BHLR = torch.split(q_BHLK, [self.nope, self.rope], dim=-1)
        return nope_BHLN, rope_BHLR

    def _latents(self, x_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent vectors (B, L, C) and the shared keys (B, 1, L, R), not yet turned."""
        latent_BLC, key_BLR = torch.split(
            self.latent_down(x_BLD), [self.params.kv_rank, self.rope], dim=-1
        )
        return self.latent_norm(latent_BLC), key_BLR.unsqueeze(1)

    def _expanded(self, latent_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys (B, H, L, N) and values (B, H, L, V) of latent vectors."""
        both_BLHX = torch.unflatten(self.latent_up(latent_BLC), -1, (self.params.heads, -1))
        keys_BHLN, v_BHLV = torch.split(both_BLHX.transpose(1, 2), [self.nope, self.value], dim=-1)
        return keys_BHLN, v_BHLV

    def _turn(self, x_BHLR: Tensor, first: Tensor | int) -> Tensor:
        return turned(x_BHLR, self.params, first, pairs=self.params.rotary_pairs)

    def _out(self, y_BHLV: Tensor) -> Tensor:
        out_BLD: Tensor = self.project_out(y_BHLV.transpose(1, 2).flatten(2))
        return out_BLD

    def start(self, batch: int) -> State:
        """Return the position and an empty cache (B, 0, C + R) of latent vectors and shared keys."""
        weight = self.latent_down.weight
        position = torch.zeros((), dtype=torch.int64, device=weight.device)
        return position, weight.new_zeros(batch, 0, self.params.kv_rank + self.rope)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D): scores and sums are taken in the latent space.

        Raises:
            StepError: not causal.
        """
        if not self.params.causal:
            raise StepError("attention that looks ahead cannot run one position at a time")
        (x_BD,) = inputs_BD
        position, cache_BSX = state
        x_B1D = x_BD.unsqueeze(1)
        nope_BH1N, rope_BH1R = self._queries(x_B1D)
        latent_B1C, key_B11R = self._latents(x_B1D)
        if self.rope:
            rope_BH1R, key_B11R = self._turn(rope_BH1R, position), self._turn(key_B11R, position)
        cache_BSX = appended(cache_BSX, torch.cat((latent_B1C, key_B11R.squeeze(1)), dim=-1), dim=1)
        up_HXC = torch.unflatten(self.latent_up.weight, 0, (self.params.heads, -1))
        up_keys_HNC, up_values_HVC = torch.split(up_HXC, [self.nope, self.value], dim=1)
        inside_BH1C = nope_BH1N @ up_keys_HNC
        q_BHX = torch.cat((inside_BH1C, rope_BH1R), dim=-1).squeeze(2)
        scores_BHS = (q_BHX @ cache_BSX.transpose(1, 2)).to(float_dtype(q_BHX)) * self.scale
        weights_BHS = scores_BHS.softmax(-1).to(q_BHX.dtype)
        latent_BH1C = (weights_BHS @ cache_BSX[..., : self.params.kv_rank]).unsqueeze(2)
        y_BH1V = latent_BH1C @ up_values_HVC.transpose(1, 2)
        return self._out(y_BH1V).squeeze(1), (position + 1, cache_BSX)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Attend query by query, with keys and values of every head written out."""
        (x_BLD,) = inputs
        nope_BHLN, rope_BHLR = self._queries(x_BLD)
        latent_BLC, key_B1LR = self._latents(x_BLD)
        if self.rope:
            rope_BHLR, key_B1LR = (
                turned_as_complex(x, self.params, pairs=self.params.rotary_pairs)
                for x in (rope_BHLR, key_B1LR)
            )
        size = self.nope + self.value
        q_heads, k_heads, v_heads = [], [], []
        for head in range(self.params.heads):
            up_XC = self.latent_up.weight[head * size : (head + 1) * size]
            key_BLN = torch.einsum("blc,nc->bln", latent_BLC, up_XC[: self.nope])
            k_heads.append(torch.cat((key_BLN, key_B1LR[:, 0]), dim=-1))
            v_heads.append(torch.einsum("blc,vc->blv", latent_BLC, up_XC[self.nope :]))
            q_heads.append(torch.cat((nope_BHLN[:, head], rope_BHLR[:, head]), dim=-1))
        q_BHLK, k_BHLK, v_BHLV = (torch.stack(x, 1) for x in (q_heads, k_heads, v_heads))
        y_BHLV = attend_row_by_row(
            q_BHLK, k_BHLK, v_BHLV, causal=self.params.causal, scale=self.scale
        )
        return self._out(y_BHLV)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide, or the turning features are not pairs."""
        if params.nope_dim is None or params.value_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
        yield from rotary_problems(params)
        if params.rotary and params.rope_dim % 2:
            yield Problem(
                "rope_dim",
                "rotary positions turn pairs of features",
                "an even number",
                str(params.rope_dim),
                f"try {params.rope_dim + 1}, or set rotary: false",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return a latent vector and the rotary key that all heads share."""
        return (params.kv_rank + params.rope_dim) * FLOAT32_BYTES


def _sizes(params: LatentAttention.Params, width: int) -> tuple[int, int, int]:
    """Return a head's key features without and with position, and its value features."""
    size = width // params.heads
    return params.nope_dim or size, params.rope_dim, params.value_dim or size
