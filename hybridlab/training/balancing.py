"""How the losses or gradients of several tasks become one: the papers' equations, as functions of plain tensors.

Gradients are combined through their inner products alone: the combination is named by one coefficient a task, so that
no more than the tasks' gradients themselves is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROUNDS = 500
_ENOUGH = 1e-10


def uncertainty(losses: Tensor, log_variances: Tensor) -> Tensor:
    """Return the sum over tasks of exp(-s) L + s / 2 (scalar), for cross entropies and s = log σ².

    Equation 10 of https://arxiv.org/abs/1705.07115: L / σ² + log σ. Its least point over s is at exp(s) = 2 L.
    """
    return (torch.exp(-log_variances) * losses + 0.5 * log_variances).sum()


def dynamic_weights(before: Tensor, last: Tensor, temperature: float) -> Tensor:
    """Return the weights of tasks (n), whose sum is n, from the mean losses of the last two spans of steps.

    Equation 7 of https://arxiv.org/abs/1803.10704: n softmax(r / T) with r the last loss over the one before.
    """
    return len(last) * torch.softmax(last / before / temperature, 0)


def gradnorm_gradient(
    weights: Tensor, norms: Tensor, losses: Tensor, first_losses: Tensor, alpha: float
) -> Tensor:
    """Return the gradient of GradNorm's own loss by the weights of tasks (n).

    https://arxiv.org/abs/1711.02257: the loss is the sum over tasks of |G - mean(G) r^α|, where G is the norm of the
    gradient of the weighted loss, ``norms`` those without weights, and r the share of its first loss that a task still
    has, over the mean of such shares; mean(G) r^α is taken to be fixed.
    """
    weighted = weights * norms
    left = losses / first_losses
    target = weighted.mean() * (left / left.mean()) ** alpha
    return torch.sign(weighted - target) * norms


def gradnorm_step(weights: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """Return the weights (n) after a step against a gradient, kept above 0 and scaled so that their sum is n.

    The gradient is taken relative to its mean size, so that ``rate`` means the same for any loss.
    """
    size = gradient.abs().mean()
    moved = weights - rate * gradient / size if float(size) > 0 else weights
    moved = moved.clamp(min=1e-3)
    return moved * len(moved) / moved.sum()


def pcgrad(gram: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Return by how much each task's gradient counts in PCGrad's sum (n), from inner products (n, n).

    Algorithm 1 of https://arxiv.org/abs/2001.06782: each gradient g goes through the others' original ones h in its own
    order, and loses g·h / |h|² h wherever g·h < 0; the results are added. ``orders[i]`` are the tasks that i meets.
    """
    count = len(gram)
    mixed = torch.eye(count, dtype=gram.dtype)
    for task, order in enumerate(orders):
        for other in order:
            if other == task:
                continue
            along = mixed[task] @ gram[:, other]
            if along < 0:
                mixed[task, other] -= along / gram[other, other]
    return mixed.sum(0)


def cagrad(gram: Tensor, c: float) -> Tensor:
    """Return by how much each task's gradient counts in CAGrad's direction (n), from inner products (n, n).

    Algorithm 1 of https://arxiv.org/abs/2110.14048: d = g0 + √φ / |gw| gw with g0 the mean gradient, φ = c² |g0|² and
    gw the mixture that makes gw·g0 + √φ |gw| smallest. It is n times as long as the paper's, so that rates that suit a
    sum of losses suit it too.
    """
    products = gram.double().numpy()
    count = len(products)
    mean = np.full(count, 1 / count)
    reach = c * math.sqrt(max(float(mean @ products @ mean), 0.0))
    if reach <= 0:
        return torch.ones(count, dtype=gram.dtype)
    mixture = least_mixture(products, products @ mean, reach)
    length = math.sqrt(max(float(mixture @ products @ mixture), 0.0))
    if length <= 1e-12 * reach:  # the gradients cancel out: nothing to go towards
        return torch.ones(count, dtype=gram.dtype)
    return torch.from_numpy(count * (mean + reach / length * mixture)).to(gram.dtype)


def least_mixture(
    products: NDArray[np.float64], along: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """Return the shares w (n), at least 0 and 1 in sum, that make w·along + reach √(wᵀ products w) smallest.

    The function is convex; descent along the gradient, brought back onto the simplex, with a step that is halved until
    it helps and grows again.
    """
    scale = float(np.trace(products)) or 1.0
    products, along, reach = products / scale, along / scale, reach / math.sqrt(scale)

    def height(w: NDArray[np.float64]) -> float:
        return float(w @ along) + reach * math.sqrt(max(float(w @ products @ w), 0.0))

    w: NDArray[np.float64] = np.full(len(products), 1 / len(products))
    here, step = height(w), 1.0
    for _ in range(_ROUNDS):
        length = math.sqrt(max(float(w @ products @ w), 1e-30))
        slope = along + reach * (products @ w) / length
        while step > 1e-14:
            tried = onto_simplex(w - step * slope)
            there = height(tried)
            if there <= here - 1e-4 * float(slope @ (w - tried)):
                break
            step /= 2
        else:
            break
        moved = float(np.abs(tried - w).max())
        w, here, step = tried, there, 2 * step
        if moved < _ENOUGH:
            break
    return w


def onto_simplex(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest point with entries of at least 0 and a sum of 1 (https://arxiv.org/abs/1309.1541)."""
    falling = np.sort(values)[::-1]
    sums = np.cumsum(falling) - 1
    last = np.flatnonzero(falling - sums / np.arange(1, len(values) + 1) > 0)[-1]
    return np.asarray(np.maximum(values - sums[last] / (last + 1), 0))


def cosines(gram: Tensor) -> Tensor:
    """Return the cosines between gradients (n, n) from their inner products; not a number where one is zero."""
    norms = gram.diagonal().clamp(min=0).sqrt()
    return (gram / (norms[:, None] * norms)).clamp(-1, 1)
