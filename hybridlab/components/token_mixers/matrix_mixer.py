"""What mixers with a matrix memory share: maps in, a short convolution, the memory, a map out; in three forms."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import FLOAT32_BYTES, BuildContext, Component, State, float_dtype
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.token_mixers.matrix_memory import recall, recall_loop, recall_step


class Sizes(NamedTuple):
    """The memory's H heads of K x V numbers, and the features that pass the convolution."""

    heads: int
    key: int
    value: int
    mixed: int = 0


class Written(NamedTuple):
    """What is written and read: the arguments of ``matrix_memory.recall``."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decay: Tensor | None = None
    beta: Tensor | None = None

    def now(self) -> Written:
        """Return the one position of a length of one; what is constant stays."""
        decay = self.log_decay
        return Written(
            self.queries.squeeze(1),
            self.keys.squeeze(1),
            self.values.squeeze(1),
            decay if decay is None or decay.dim() == 1 else decay.squeeze(1),
            None if self.beta is None else self.beta.squeeze(1),
        )


class MatrixMixer(Component):
    """A token mixer around a matrix memory, (B, L, D) to (B, L, D).

    A subclass says what it keeps (``sizes``) and how wide the parts of its map in are (``parts``, ``others``), and
    computes what is written and read (``written``) and what becomes of it (``read_out``).
    """

    project_in: nn.Linear
    parts: list[int]
    """Features of queries, keys and values, which pass the convolution."""
    others: list[int]
    """Features of what else the map in gives: gates, steps."""
    conv: DepthwiseConv | None
    project_out: nn.Linear
    counts: ClassVar[bool] = False
    """Whether ``written`` needs to know the position."""

    @classmethod
    @abstractmethod
    def sizes(cls, params: Any, width: int) -> Sizes:
        """Return the size of the memory."""

    def split(self, x_BLD: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the features that pass the convolution (B, L, M), and others."""
        mixed_BLM, *others = torch.split(
            self.project_in(x_BLD), [sum(self.parts), *self.others], dim=-1
        )
        return mixed_BLM, tuple(others)

    @abstractmethod
    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return queries, keys, values, decays and betas; ``first`` is the position of the first of the L."""

    @abstractmethod
    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Return the features that the map out takes (B, L, E); what was read comes in float32 or better.

        A norm makes the smallest of what is read as large as the rest, so it must not be rounded before.
        """

    def out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Return the output (B, L, D)."""
        features_BLE = self.read_out(o_BLHV, others).to(self.project_out.weight.dtype)
        out_BLD: Tensor = self.project_out(features_BLE)
        return out_BLD

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        written, others = self._all_written(x_BLD)
        return self.out(recall(*written, chunk=self.params.chunk), others)

    def _all_written(self, x_BLD: Tensor) -> tuple[Written, tuple[Tensor, ...]]:
        """Return what all positions write and read, and others."""
        mixed_BLM, others = self.split(x_BLD)
        if self.conv is not None:
            mixed_BLM = self.conv(mixed_BLM)
        return self.written(mixed_BLM, others, 0), others

    def mixing_matrix(self, *inputs: Tensor) -> Tensor:
        """Return the matrices (B, H, L, L) of writing and reading: what is read of one-hot values."""
        written, _ = self._all_written(*inputs)
        written = written._replace(values=one_hot_values(written.values))
        return recall(*written, chunk=self.params.chunk).transpose(1, 2)

    def start(self, batch: int) -> State:
        """Return the memory (B, H, K, V), the convolution's last inputs and, where needed, the count of positions."""
        heads, key, value, _ = self.sizes(self.params, self.context.width)
        weight = next(self.parameters())
        state: State = (weight.new_zeros(batch, heads, key, value, dtype=float_dtype(weight)),)
        if self.conv is not None:
            state += (self.conv.start(batch),)
        if self.counts:
            state += (torch.zeros((), dtype=torch.int64, device=weight.device),)
        return state

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        memory_BHKV, *rest = state
        mixed_B1M, others = self.split(x_BD.unsqueeze(1))
        if self.conv is not None:
            mixed_BM, rest[0] = self.conv.step(rest[0], mixed_B1M.squeeze(1))
            mixed_B1M = mixed_BM.unsqueeze(1)
        written = self.written(mixed_B1M, others, rest[-1] if self.counts else 0)
        o_BHV, memory_BHKV = recall_step(memory_BHKV, *written.now())
        if self.counts:
            rest[-1] = rest[-1] + 1
        return self.out(o_BHV.unsqueeze(1), others).squeeze(1), (memory_BHKV, *rest)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        mixed_BLM, others = self.split(x_BLD)
        if self.conv is not None:
            mixed_BLM = self.conv.reference(mixed_BLM)
        return self.out(recall_loop(*self.written(mixed_BLM, others, 0)), others)

    @classmethod
    def causal(cls, params: Any) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Any, context: BuildContext) -> float:
        """Return the bytes of H x K x V numbers and of the last inputs of the convolution."""
        heads, key, value, mixed = cls.sizes(params, context.width)
        before = max(0, getattr(params, "conv", 0) - 1) * mixed
        return (heads * key * value + before) * FLOAT32_BYTES


def one_hot_values(v_BLHV: Tensor) -> Tensor:
    """Return values (B, L, H, L) that each say nothing but their own place."""
    batch, length, heads, _ = v_BLHV.shape
    eye_LL = torch.eye(length, dtype=v_BLHV.dtype, device=v_BLHV.device)
    return eye_LL[:, None].expand(batch, length, heads, length)


def delta_gate(logits_BLH: Tensor, *, negative: bool) -> Tensor:
    """Return beta in 0 to 1, or 0 to 2 so that a state can turn its sign (https://arxiv.org/abs/2411.12537)."""
    beta_BLH = torch.sigmoid(logits_BLH.to(float_dtype(logits_BLH)))
    return 2 * beta_BLH if negative else beta_BLH


def input_decay(logits: Tensor, step_bias: Tensor, log_rate: Tensor) -> Tensor:
    """Return the log decay - exp(rate) softplus(x + bias), at most 0, in float32 or better."""
    wide = float_dtype(logits)
    return -log_rate.to(wide).exp() * F.softplus(logits.to(wide) + step_bias.to(wide))
