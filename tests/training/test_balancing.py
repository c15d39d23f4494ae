"""Balancing does what the papers' equations say, on gradients and losses whose answer is known or found another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hybridlab.training.balancing import (
    cagrad,
    cosines,
    dynamic_weights,
    gradnorm_gradient,
    gradnorm_step,
    least_mixture,
    onto_simplex,
    pcgrad,
    uncertainty,
)


def _gradients(count: int, seed: int, size: int = 7) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=drawn, dtype=torch.float64)


def _as_written(gradients: Tensor, orders: list[list[int]]) -> Tensor:
    """Algorithm 1 of PCGrad, on the vectors themselves."""
    total = torch.zeros_like(gradients[0])
    for task, order in enumerate(orders):
        mine = gradients[task].clone()
        for other in order:
            if other != task and mine @ gradients[other] < 0:
                mine -= (
                    (mine @ gradients[other]) / gradients[other].square().sum() * gradients[other]
                )
        total += mine
    return total


def test_pcgrad_of_two_gradients_that_conflict_is_the_sum_of_their_projections() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    counts = pcgrad(gradients @ gradients.T, [[0, 1], [1, 0]])
    # (1, 0) without its part along (-1, 1) is (1/2, 1/2); (-1, 1) without its part along (1, 0) is (0, 1).
    assert (counts @ gradients).tolist() == pytest.approx([0.5, 1.5])


def test_pcgrad_leaves_gradients_alone_that_do_not_conflict() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.3, 1.0], [1.0, 1.0]], dtype=torch.float64)
    orders = [[2, 1, 0], [0, 1, 2], [1, 0, 2]]
    assert pcgrad(gradients @ gradients.T, orders).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_pcgrad_by_inner_products_is_that_of_the_vectors(count: int, seed: int) -> None:
    gradients = _gradients(count, seed)
    drawn = np.random.default_rng(seed)
    orders = [drawn.permutation(count).tolist() for _ in range(count)]
    found = pcgrad(gradients @ gradients.T, orders) @ gradients
    torch.testing.assert_close(found, _as_written(gradients, orders))


def test_pcgrad_with_a_gradient_of_zero_changes_nothing() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert pcgrad(gradients @ gradients.T, [[1, 0], [0, 1]]).tolist() == [1.0, 1.0]


def test_cagrad_of_two_equal_gradients_at_a_right_angle_goes_further_along_their_mean() -> None:
    gradients = torch.eye(2, dtype=torch.float64)
    found = cagrad(gradients @ gradients.T, 0.4) @ gradients
    assert found.tolist() == pytest.approx([1.4, 1.4]), "twice (1 + c) of the mean (1/2, 1/2)"
    assert cagrad(gradients @ gradients.T, 0.0).tolist() == [1.0, 1.0], "c = 0 is the plain sum"


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_cagrad_helps_the_worst_off_task_most_within_its_ball(count: int, seed: int) -> None:
    gradients, c = _gradients(count, seed), 0.5
    gradients[0] *= 5
    mean = gradients.mean(0)
    found = cagrad(gradients @ gradients.T, c) @ gradients / count
    radius = c * mean.norm()
    assert (found - mean).norm() <= radius * (1 + 1e-6)
    worst = (gradients @ found).min()
    drawn = torch.Generator().manual_seed(99)
    away = torch.randn(4000, gradients.shape[1], generator=drawn, dtype=torch.float64)
    tried = mean + radius * away / away.norm(dim=1, keepdim=True)
    assert worst >= (tried @ gradients.T).min(1).values.max() - 1e-6
    closer = found + 0.01 * radius * away[:200] / away[:200].norm(dim=1, keepdim=True)
    inside = (closer - mean).norm(dim=1) <= radius
    assert worst >= (closer[inside] @ gradients.T).min(1).values.max() - 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_mixture_is_the_least_of_a_fine_grid(seed: int) -> None:
    gradients = _gradients(3, seed).numpy()
    products = gradients @ gradients.T
    along, reach = products.mean(1), 0.7
    w = least_mixture(products, along, reach)
    steps = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-12])
    heights = grid @ along + reach * np.sqrt(np.einsum("ni,ij,nj->n", grid, products, grid))
    assert w.sum() == pytest.approx(1) and (w >= 0).all()
    assert w @ along + reach * math.sqrt(w @ products @ w) <= heights.min() + 1e-9


def test_cagrad_of_gradients_that_cancel_out_is_their_sum() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert cagrad(gradients @ gradients.T, 0.5).tolist() == [1.0, 1.0]
    assert cagrad(torch.zeros(2, 2), 0.5).tolist() == [1.0, 1.0]


def test_points_go_to_the_nearest_place_on_the_simplex() -> None:
    assert onto_simplex(np.array([0.2, 0.3, 0.5])).tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert onto_simplex(np.array([3.0, 0.0])).tolist() == [1.0, 0.0]
    assert onto_simplex(np.array([0.6, 0.6, -5.0])).tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_uncertainty_is_least_where_the_variance_is_twice_the_loss() -> None:
    losses = torch.tensor([0.25, 3.0], dtype=torch.float64)
    least = torch.log(2 * losses).requires_grad_()
    total = uncertainty(losses, least)
    (gradient,) = torch.autograd.grad(total, least)
    assert gradient.abs().max() < 1e-12
    sigma = least.detach().exp().sqrt()
    wanted = (losses / sigma**2 + sigma.log()).sum()
    assert float(total.detach()) == pytest.approx(float(wanted)), "L / σ² + log σ"
    for shift in (-0.1, 0.1):
        assert uncertainty(losses, least.detach() + shift) > total


def test_dynamic_weights_by_hand() -> None:
    before, last = torch.tensor([2.0, 2.0]), torch.tensor([1.0, 2.0])
    one, two = math.exp(0.5 / 2), math.exp(1.0 / 2)
    wanted = [2 * one / (one + two), 2 * two / (one + two)]
    assert dynamic_weights(before, last, 2.0).tolist() == pytest.approx(wanted)
    assert dynamic_weights(last, last, 2.0).tolist() == [1.0, 1.0]


def test_gradnorms_gradient_is_that_of_its_loss() -> None:
    weights = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    norms = torch.tensor([4.0, 1.0, 0.2], dtype=torch.float64)
    losses, first = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 2.0, 2.0])
    alpha = 1.5
    left = (losses / first).double()
    sizes = weights * norms
    target = (sizes.mean() * (left / left.mean()) ** alpha).detach()
    (wanted,) = torch.autograd.grad((sizes - target).abs().sum(), weights)
    found = gradnorm_gradient(weights.detach(), norms, losses.double(), first.double(), alpha)
    torch.testing.assert_close(found, wanted)


def test_gradnorm_makes_gradients_equally_large_where_tasks_are_equally_far() -> None:
    norms, losses = torch.tensor([10.0, 1.0]), torch.ones(2)
    weights = torch.ones(2)
    for _ in range(2000):
        gradient = gradnorm_gradient(weights, norms, losses, losses, 0.0)
        weights = gradnorm_step(weights, gradient, 1e-3)
        assert float(weights.sum()) == pytest.approx(2.0)
    # w1 · 10 = w2 · 1 and w1 + w2 = 2
    assert weights.tolist() == pytest.approx([2 / 11, 20 / 11], abs=0.01)


def test_gradnorm_pulls_the_slower_task_along() -> None:
    norms = torch.ones(2)
    slow = gradnorm_gradient(
        torch.ones(2), norms, torch.tensor([1.0, 0.1]), torch.ones(2), alpha=1.0
    )
    moved = gradnorm_step(torch.ones(2), slow, 0.1)
    assert moved[0] > 1 > moved[1]


def test_cosines_of_gradients() -> None:
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = cosines(gradients @ gradients.T)
    assert float(found[0, 1]) == pytest.approx(math.sqrt(0.5))
    assert found[0, 2].isnan()
