"""A space of tens of millions of hybrids whose quality and memory are formulas, so that its exact front is known.

It is a test and a teaching aid: a front found in some hundred trials can be laid over the true one. A design has one
width D and H heads for all blocks; every block has a token mixer, a SwiGLU behind it, and may be recomputed in the
backward pass. With T = batch x length tokens, n_i weights and s_i kept numbers a token of block i, t_i operations:

    memory  = 16 sum n_i + 4 T (sum of s_i of kept blocks + D for each recomputed + the largest recomputed s_i)
    tokens  = budget / sum t_i        recomputing costs a third of t_i more, and so tokens
    recall  = 1 - exp(-sum of attention blocks: sqrt(H) (1 - exp(-D / 24 H)) p_i)   p_i: best at two thirds of the depth
    states  = 1 - exp(-sum of others: strength q_i)                                 q_i: best at the bottom
    loss    = (N / N0)^-.34 + (tokens / T0)^-.28 + .9 (1 - recall) + .7 (1 - states) - .2 share of unlike neighbours
    quality = exp(-loss / 2)

The first two terms of the loss have the form and the exponents of https://arxiv.org/abs/2203.15556; all else is made up
so that depth, order, neighbours and width matter together. Nothing here claims to foretell a real training.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridlab.search.pareto import hypervolume, non_dominated
from hybridlab.search.space import Choice, Codes, Design, Space

Array = NDArray[np.float64]
BATCH, LENGTH, STATE, VOCAB = 8, 512, 16, 64
T = BATCH * LENGTH
BUDGET_FLOPS = 2e15
PARAMS_0, TOKENS_0 = 6e6, 1e8
MIXERS = ("attention", "mamba2", "lstm")
STRENGTH = {"attention": 0.0, "mamba2": 0.45, "lstm": 1.0}
"""How well one block of a mixer keeps a state, at the bottom."""
KEPT, RECOMPUTED = "keep", "recompute"


@dataclass(frozen=True)
class ClosedForm:
    """The sizes of the space; the formulas are the same for all of them."""

    blocks: int = 8
    widths: tuple[int, ...] = (64, 96, 128, 192, 256)
    heads: tuple[int, ...] = (2, 4, 8)
    mixers: tuple[str, ...] = MIXERS

    @functools.cached_property
    def space(self) -> Space:
        """The choices: width, heads, and of each block its mixer and whether it is recomputed."""
        blocks = range(1, self.blocks + 1)
        return Space(
            (
                Choice("width", self.widths),
                Choice("heads", self.heads),
                *(Choice(f"mixer_{i}", self.mixers, "mixer") for i in blocks),
                *(Choice(f"memory_{i}", (KEPT, RECOMPUTED), "memory") for i in blocks),
            )
        )

    def evaluate(self, codes_NP: Codes) -> Array:
        """Return quality and peak bytes of designs, (N, 2)."""
        answers = np.empty((len(codes_NP), 2))
        for pair in np.unique(codes_NP[:, :2], axis=0):
            rows = np.flatnonzero((codes_NP[:, :2] == pair).all(axis=1))
            width, heads = self.widths[pair[0]], self.heads[pair[1]]
            options = codes_NP[rows, 2 : 2 + self.blocks] * 2 + codes_NP[rows, 2 + self.blocks :]
            sums = _Sums.of(_tables(width, heads, self.blocks, self.mixers), options)
            answers[rows] = np.column_stack(_answers(sums, width, self.blocks))
        return answers

    def all_values(self, width: int, heads: int) -> tuple[Array, Array]:
        """Return quality and peak bytes of all designs of a width and heads, as two arrays (first half, second half).

        A half is every way to choose the lower blocks, or the upper; sums over blocks are added as an outer sum.
        """
        table = _tables(width, heads, self.blocks, self.mixers)
        cut = self.blocks // 2
        lower, upper = (
            _Sums.of(table[:, start:end], _all_rows(end - start, table.shape[2]))
            for start, end in ((0, cut), (cut, self.blocks))
        )
        return _answers(lower.beside(upper), width, self.blocks)

    @functools.cached_property
    def _exact(self) -> tuple[Array, Array, Codes]:
        """Front as designs' values (K, 2: quality, bytes), the worst quality and bytes, and the designs (K, P)."""
        front, codes = np.empty((0, 2)), np.empty((0, self.space.sizes.size), dtype=np.int64)
        worst = np.array([-math.inf, -math.inf])
        for w, width in enumerate(self.widths):
            for h, heads in enumerate(self.heads):
                quality, peak = self.all_values(width, heads)
                shape = quality.shape
                points = np.column_stack((-quality.ravel(), peak.ravel()))
                worst = np.maximum(worst, points.max(axis=0))
                kept = _survivors(points)
                rows = self._rows(w, h, kept, shape)
                joined, both = np.vstack((front, points[kept])), np.vstack((codes, rows))
                best = non_dominated(joined)
                front, codes = joined[best], both[best]
        order = np.argsort(front[:, 1])
        return front[order], worst, codes[order]

    def _rows(self, width: int, heads: int, flat: Codes, shape: tuple[int, ...]) -> Codes:
        cut, options = self.blocks // 2, 2 * len(self.mixers)
        lower, upper = np.unravel_index(flat, shape)
        chosen = np.column_stack(
            (
                _all_rows(cut, options)[lower],
                _all_rows(self.blocks - cut, options)[upper],
            )
        )
        head = np.broadcast_to([width, heads], (len(flat), 2))
        return np.column_stack((head, chosen // 2, chosen % 2)).astype(np.int64)

    @property
    def front(self) -> Array:
        """The exact front: quality and peak bytes, (K, 2), from the smallest memory on."""
        return np.asarray(self._exact[0] * (-1.0, 1.0), dtype=np.float64)

    @property
    def front_designs(self) -> Codes:
        """The designs of the exact front, in its order, (K, P)."""
        return np.asarray(self._exact[2], dtype=np.int64)

    @property
    def reference(self) -> Array:
        """The worst of the whole space, as values to be made small: quality with its sign turned, and bytes."""
        return self._exact[1]

    @functools.cached_property
    def hypervolume(self) -> float:
        """Hypervolume of the exact front within the worst of the space."""
        return hypervolume(self._exact[0], self._exact[1])

    def hand_designs(self) -> list[Design]:
        """Return what a person would begin with: plain and mixed stacks, narrow and wide, kept and recomputed."""
        patterns: list[tuple[str, ...]] = [(m,) for m in self.mixers]
        patterns += [(a, b) for a in self.mixers[1:] for b in self.mixers[:1]]
        found: list[Design] = []
        for index, pattern in enumerate(patterns):
            for width in (self.widths[0], self.widths[len(self.widths) // 2], self.widths[-1]):
                memory = RECOMPUTED if (index + self.widths.index(width)) % 2 else KEPT
                design: Design = {"width": width, "heads": self.heads[len(self.heads) // 2]}
                for i in range(self.blocks):
                    design[f"mixer_{i + 1}"] = pattern[i % len(pattern)]
                    design[f"memory_{i + 1}"] = memory
                found.append(design)
        return found


def plainly(design: Design, blocks: int) -> tuple[float, float]:
    """Return quality and peak bytes of one design: the formulas above, one by one, to judge the arrays by."""
    width, heads = int(str(design["width"])), int(str(design["heads"]))
    params = flops = kept = recall = states = 0.0
    largest = unlike = 0.0
    before = None
    for i in range(1, blocks + 1):
        mixer = str(design[f"mixer_{i}"])
        weights, saved, work = _block(mixer, width, heads)
        recomputed = design[f"memory_{i}"] == RECOMPUTED
        params += weights
        kept += width if recomputed else saved
        largest = max(largest, saved if recomputed else 0.0)
        flops += work * (4 / 3 if recomputed else 1.0)
        place = (i - 0.5) / blocks
        if mixer == "attention":
            power = math.sqrt(heads) * (1 - math.exp(-width / heads / 24))
            recall += 0.35 * power * math.exp(-((place - 2 / 3) ** 2) / 0.08)
        states += STRENGTH[mixer] * math.exp(-place / 0.45)
        unlike += before is not None and before != mixer
        before = mixer
    params += 2 * VOCAB * width
    tokens = BUDGET_FLOPS / (flops + 6 * VOCAB * width)
    loss = (params / PARAMS_0) ** -0.34 + (tokens / TOKENS_0) ** -0.28
    loss += 0.9 * math.exp(-recall) + 0.7 * math.exp(-states) - 0.2 * unlike / max(blocks - 1, 1)
    return math.exp(-loss / 2), 16 * params + 4 * T * (kept + largest)


def _block(mixer: str, width: int, heads: int) -> tuple[float, float, float]:
    """Return weights, numbers kept for backward per token, and operations per token of a block."""
    D = width
    swiglu = 8 * D * D
    if mixer == "attention":
        weights, saved, extra = 4 * D * D, 6 * D + LENGTH * heads / 4, 12 * LENGTH * D
    elif mixer == "mamba2":
        weights, saved, extra = 6 * D * D, 9 * D + 2 * STATE * heads, 36 * STATE * D
    else:
        weights, saved, extra = 8 * D * D, 14 * D, 60 * D * D  # its steps wait for each other
    return weights + swiglu, saved + 10 * D, 6 * (weights + swiglu) + extra


@functools.lru_cache(maxsize=256)
def _tables(width: int, heads: int, blocks: int, mixers: tuple[str, ...]) -> Array:
    """Return what each block adds by its option, (7, blocks, options); an option is a mixer, kept or recomputed.

    Rows: weights, kept numbers, recomputed working set, operations, recall, states, and the mixer's number.
    """
    table = np.zeros((7, blocks, 2 * len(mixers)))
    place = (np.arange(blocks) + 0.5) / blocks
    for number, mixer in enumerate(mixers):
        weights, saved, work = _block(mixer, width, heads)
        for recomputed in (0, 1):
            at = 2 * number + recomputed
            table[0, :, at] = weights
            table[1, :, at] = width if recomputed else saved
            table[2, :, at] = saved if recomputed else 0
            table[3, :, at] = work * (4 / 3 if recomputed else 1)
            if mixer == "attention":
                power = math.sqrt(heads) * (1 - math.exp(-width / heads / 24))
                table[4, :, at] = 0.35 * power * np.exp(-((place - 2 / 3) ** 2) / 0.08)
            table[5, :, at] = STRENGTH[mixer] * np.exp(-place / 0.45)
            table[6, :, at] = number
    return table


@dataclass(frozen=True)
class _Sums:
    """What is added up over some blocks, for many ways to choose them."""

    added: Array
    """Weights, kept numbers, operations, recall, states, unlike neighbours: (6, N)."""
    largest: Array
    first: Array
    last: Array

    @classmethod
    def of(cls, table: Array, options_NB: Codes) -> _Sums:
        blocks = np.arange(table.shape[1])
        taken = table[:, blocks, options_NB]
        unlike = (np.diff(taken[6], axis=1) != 0).sum(axis=1)
        sums = taken[[0, 1, 3, 4, 5]].sum(axis=2)
        return cls(np.vstack((sums, unlike)), taken[2].max(axis=1), taken[6][:, 0], taken[6][:, -1])

    def beside(self, other: _Sums) -> _Sums:
        """Return the sums of every pair of ways, (…, N, M): this one's blocks come first."""
        added = self.added[:, :, None] + other.added[:, None, :]
        added[5] += self.last[:, None] != other.first[None, :]
        largest = np.maximum(self.largest[:, None], other.largest[None, :])
        return _Sums(added, largest, self.first, other.last)


def _answers(sums: _Sums, width: int, blocks: int) -> tuple[Array, Array]:
    params, kept, flops, recall, states, unlike = sums.added
    params = params + 2 * VOCAB * width
    tokens = BUDGET_FLOPS / (flops + 6 * VOCAB * width)
    loss = (params / PARAMS_0) ** -0.34 + (tokens / TOKENS_0) ** -0.28
    loss += 0.9 * np.exp(-recall) + 0.7 * np.exp(-states) - 0.2 * unlike / max(blocks - 1, 1)
    return np.exp(-loss / 2), 16 * params + 4 * T * (kept + sums.largest)


@functools.lru_cache(maxsize=16)
def _all_rows(blocks: int, options: int) -> Codes:
    """Return every way to choose an option for each block, (options^blocks, blocks)."""
    axes = np.indices((options,) * blocks).reshape(blocks, -1)
    return np.ascontiguousarray(axes.T, dtype=np.int64)


def _survivors(points_N2: Array) -> Codes:
    """Return the places of the non-dominated points among very many: most are sorted out by a rough front first."""
    rough = points_N2[:: max(1, len(points_N2) // 20_000)]
    rough = rough[non_dominated(rough)]
    rough = rough[np.argsort(rough[:, 1])]
    # The best first value at no more than this second one; a point above it is beaten.
    below = np.searchsorted(rough[:, 1], points_N2[:, 1], side="right")
    best = np.concatenate(([np.inf], rough[:, 0]))[below]
    left = np.flatnonzero(points_N2[:, 0] <= best)
    return np.asarray(left[non_dominated(points_N2[left])], dtype=np.int64)
