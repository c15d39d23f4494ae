"""Rotary positions: queries and keys turn by angles that grow with position.

https://arxiv.org/abs/2104.09864; the scalings are those of published models for sequences longer than
the ones they were first trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import field as held
from typing import Any, Literal

import torch
from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import field
from hybridlab.errors import Problem

Table = tuple[Tensor, Tensor]
"""Cosines and signed sines (L, K), by which all features turn at once."""


@dataclass
class Tables:
    """Tables of turns that were made, so that each is made once for all queries and keys that need the same."""

    made: dict[Any, Table] = held(default_factory=dict)
    asked: int = 0

    def get(self, key: Any, make: Callable[[], Table]) -> Table:
        """Return the table of a key, made where it is not there."""
        self.asked += 1
        if key not in self.made:
            if len(self.made) >= MOST_TABLES:
                self.made.clear()
            self.made[key] = make()
        return self.made[key]


MOST_TABLES = 64
_tables: ContextVar[Tables | None] = ContextVar("tables", default=None)
FASTEST = {"llama3": 4.0, "yarn": 32.0, "yarn_exact": 32.0}
"""Turns above which a feature keeps its speed, where the parameter is left empty."""


class RotaryParams(base.Params):
    """Parameters of a component whose queries and keys turn."""

    rotary: bool = field(True, help="Turn queries and keys by their position.")
    rotary_base: float = field(
        10_000.0, help="Base of the rotary wavelengths; larger for long sequences.", gt=1, le=1e12
    )
    rotary_scaling: Literal["none", "linear", "llama3", "yarn", "yarn_exact"] = field(
        "none",
        help="How turns are slowed for long sequences: all alike, or only slow ones (llama3, yarn; "
        "yarn_exact does not round its bounds, as gpt-oss).",
    )
    rotary_factor: float = field(
        8.0, help="What slowed turns are divided by, with a scaling.", ge=1, le=10_000
    )
    rotary_trained: int = field(
        8192,
        help="Length in which turns are counted, with llama3 and yarn: that of the first training.",
        ge=1,
        le=1_073_741_824,
        unit="positions",
    )
    rotary_slow: float = field(
        1.0,
        help="Turns in that length below which a feature is slowed fully, with llama3 and yarn.",
        gt=0,
        le=10_000,
        unit="turns",
    )
    rotary_fast: float | None = field(
        None,
        help="Turns in that length above which a feature keeps its speed; empty: 4 with llama3, 32 "
        "with yarn.",
        gt=0,
        le=10_000,
        unit="turns",
    )
    rotary_magnitude: float | None = field(
        None,
        help="Factor on what was turned; empty: 1, and 1 + 0.1 ln(rotary_factor) with yarn.",
        gt=0,
        le=100,
    )

    @property
    def fastest(self) -> float:
        """Turns above which a feature keeps its speed, with llama3 and yarn."""
        return self.rotary_fast or FASTEST.get(self.rotary_scaling, math.inf)

    @property
    def magnitude(self) -> float:
        """Factor on turned queries and on turned keys."""
        if self.rotary_magnitude is not None:
            return self.rotary_magnitude
        yarn = self.rotary_scaling.startswith("yarn")
        return 1.0 + 0.1 * math.log(self.rotary_factor) if yarn else 1.0


def rotary_problems(params: RotaryParams) -> Iterator[Problem]:
    """Yield a problem where the scaling has no room between slow and fast turns."""
    if params.rotary and params.fastest <= params.rotary_slow:
        yield Problem(
            "rotary_slow",
            "a slow feature cannot turn more often than a fast one",
            f"less than {params.fastest:g} turns",
            f"{params.rotary_slow:g}",
            "lower rotary_slow or raise rotary_fast",
        )


def rotate(x_BHLK: Tensor, frequency_base: float, first: Tensor | int = 0) -> Tensor:
    """Turn each pair of features (i, i + K/2) of (B, H, L, K) by position x base^(-2i/K).

    ``first`` is the position of the first of the L.
    """

    def make() -> Table:
        return _table(*_angles(_frequencies(x_BHLK, frequency_base), x_BHLK, first))

    return _turn(x_BHLK, *_once(frequency_base, x_BHLK, first, make))


def turned(
    x_BHLK: Tensor, params: RotaryParams, first: Tensor | int = 0, *, pairs: bool = False
) -> Tensor:
    """Turn (B, H, L, K) as the parameters say; as it is where they say not to turn.

    Args:
        x_BHLK: what turns.
        params: base, scaling and magnitude.
        first: position of the first of the L.
        pairs: whether a pair is (2i, 2i + 1), as DeepSeek has it, rather than (i, i + K/2). What comes out is in the
            order of the latter either way, which no product of a query and a key notices.
    """
    if not params.rotary:
        return x_BHLK
    if pairs:
        x_BHLK = torch.unflatten(x_BHLK, -1, (-1, 2)).transpose(-1, -2).flatten(-2)

    def make() -> Table:
        frequencies_R = _scaled(_frequencies(x_BHLK, params.rotary_base), params)
        return _table(*_angles(frequencies_R, x_BHLK, first, params.magnitude))

    return _turn(x_BHLK, *_once(params, x_BHLK, first, make))


@contextmanager
def tables_once(tables: Tables) -> Iterator[None]:
    """Make each table of turns once in here; ``tables`` holds those that are there already."""
    before = _tables.set(tables)
    try:
        yield
    finally:
        _tables.reset(before)


def _once(
    how: RotaryParams | float, x_BHLK: Tensor, first: Tensor | int, make: Callable[[], Table]
) -> Table:
    """Return the table of turns at the length, place and format of ``x``; made anew where none is kept."""
    if torch.compiler.is_compiling():  # what is kept between calls is nothing for a traced program
        return make()
    tables = _tables.get()
    if tables is None or type(x_BHLK) is not Tensor or isinstance(first, Tensor):
        return make()
    place = (
        *x_BHLK.shape[-2:],
        first,
        x_BHLK.device,
        x_BHLK.dtype,
        torch.is_inference_mode_enabled(),
    )
    key: tuple[Any, ...] = (how,)
    if isinstance(how, RotaryParams):
        key = tuple(getattr(how, name) for name in RotaryParams.model_fields)
    return tables.get((*key, *place), make)


def _table(cos_LR: Tensor, sin_LR: Tensor) -> Table:
    """Return cosines and signed sines of pairs (i, i + R) for all 2R features."""
    return torch.cat((cos_LR, cos_LR), dim=-1), torch.cat((-sin_LR, sin_LR), dim=-1)


def _turn(x_BHLK: Tensor, cos_LK: Tensor, sin_LK: Tensor) -> Tensor:
    """Turn pairs (i, i + R) of (B, H, L, 2R), all features at once: halves apart take half as long again."""
    return torch.addcmul(x_BHLK * cos_LK, x_BHLK.roll(cos_LK.shape[-1] // 2, -1), sin_LK)


def _frequencies(x_BHLK: Tensor, frequency_base: float) -> Tensor:
    """Return the angle per position of each pair (R)."""
    half = x_BHLK.shape[-1] // 2
    exponents_R = torch.arange(half, device=x_BHLK.device, dtype=torch.float32) / half
    return frequency_base**-exponents_R


def _angles(
    frequencies_R: Tensor, x_BHLK: Tensor, first: Tensor | int, magnitude: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (L, R) in the dtype of ``x``, times the magnitude."""
    length = x_BHLK.shape[-2]
    positions_L = torch.arange(length, device=x_BHLK.device, dtype=torch.float32) + first
    angles_LR = positions_L[:, None] * frequencies_R
    cos_LR, sin_LR = angles_LR.cos(), angles_LR.sin()
    if magnitude != 1.0:
        cos_LR, sin_LR = cos_LR * magnitude, sin_LR * magnitude
    return cos_LR.to(x_BHLK.dtype), sin_LR.to(x_BHLK.dtype)


def _scaled(frequencies_R: Tensor, params: RotaryParams) -> Tensor:
    """Slow the turns: share 1 of ``kept`` keeps its speed, share 0 is divided by the factor."""
    if params.rotary_scaling == "none":
        return frequencies_R
    slowed_R = frequencies_R / params.rotary_factor
    if params.rotary_scaling == "linear":
        return slowed_R
    slow, fast = params.rotary_slow, params.fastest
    if params.rotary_scaling == "llama3":
        turns_R = frequencies_R * (params.rotary_trained / (2 * math.pi))
        kept_R = (turns_R - slow) / (fast - slow)
    else:
        half = frequencies_R.shape[0]
        first, last = (_pair_of(turns, half, params) for turns in (fast, slow))
        if params.rotary_scaling == "yarn":
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * half - 1)
        pairs_R = torch.arange(half, device=frequencies_R.device, dtype=torch.float32)
        kept_R = 1 - (pairs_R - first) / (last - first if last != first else 0.001)
    return torch.lerp(slowed_R, frequencies_R, kept_R.clamp(0, 1))


def _pair_of(turns: float, half: int, params: RotaryParams) -> float:
    """Return the pair, as a real number, that turns so often in the trained length."""
    return (
        half
        * math.log(params.rotary_trained / (turns * 2 * math.pi))
        / math.log(params.rotary_base)
    )
