"""Runs a learning-rate range test on real batches: the rate grows from step to step until the loss runs away.

https://arxiv.org/abs/1506.01186; what it says is in ``rate_curve``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.tasks.base import Task
from hybridlab.training import memory, random_state
from hybridlab.training.buckets import sorted_task
from hybridlab.training.groups import clip_all, optimiser, set_rates
from hybridlab.training.optimiser import gradient_norm
from hybridlab.training.precision import Numerics, numerics
from hybridlab.training.rate_curve import RateCurve, rate_curve
from hybridlab.training.several import objective
from hybridlab.training.spec import TrainSpec

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
LEAST_STEPS, MOST_STEPS = 20, 10_000
_RECENT = 3
_TIMES_LOWEST, _TIMES_FIRST = 4.0, 2.0
"""The loss has run away where the mean of the recent ones is this many times the lowest such mean and the first."""


def find_rate(
    model: nn.Module,
    task: Task,
    spec: TrainSpec,
    *,
    group: str = "",
    steps: int = STEPS,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    on_step: Callable[[int, int], object] = lambda done, steps: None,
) -> RateCurve:
    """Try growing rates for one group of the settings, or for all (empty), and say which to take.

    The rates of other groups are held at their peaks; "all" moves the settings' ``learning_rate`` and with it each
    group that has none of its own. The batches are those that the training would begin with. They are gone through
    twice, the second time with the sought rate at 0. Weights, buffers and random states are afterwards what they were;
    the model is moved to the spec's device. ``on_step`` is told (done, steps of both passes); what it raises ends the
    test.

    Raises:
        SpecError: there is no such group or it is frozen, or steps or rates are out of range.
        RunError: the loss is not finite from the first steps on.
        DeviceError: the device is not there, or the batch does not fit into its memory.
    """
    _check(spec, group, steps, lowest, highest)
    where = numerics(spec)
    model.to(where.device)
    memory.foresee(model, task, spec, where)
    if spec.buckets:
        task = sorted_task(model, task, spec)
    ratio = (highest / lowest) ** (1 / (steps - 1))
    rates = [lowest * ratio**place for place in range(steps)]
    with _untouched(model, where):
        losses, diverged = _run(
            model, task, spec, where, group, rates, lambda done: on_step(done, 2 * steps)
        )
    if len(losses) < _RECENT:
        raise RunError(
            Problem(
                "loss",
                f"is not finite at learning rate {rates[len(losses)]:.2g} already",
                fix="lower the lowest rate, or look at the data and the precision",
            )
        )
    tried = rates[: len(losses)]
    with _untouched(model, where):
        control, _ = _run(
            model,
            task,
            spec,
            where,
            group,
            [0.0] * len(tried),
            lambda done: on_step(steps + done * steps // len(tried), 2 * steps),
        )
    if len(control) < len(tried):  # other groups run away by themselves
        tried, losses = tried[: len(control)], losses[: len(control)]
    return rate_curve(group, tried, losses, control, diverged=diverged)


def _check(spec: TrainSpec, group: str, steps: int, lowest: float, highest: float) -> None:
    problems = []
    known = {each.name: each for each in spec.groups}
    if group and group not in known:
        names = ", ".join(known) or "no groups in the settings"
        problems.append(Problem("group", "there is no such group", names, repr(group)))
    elif group and known[group].frozen:
        problems.append(
            Problem("group", f"{group!r} is frozen, so no rate moves it", fix="let it learn")
        )
    if not LEAST_STEPS <= steps <= MOST_STEPS:
        asked = f"{LEAST_STEPS} to {MOST_STEPS:,}"
        problems.append(Problem("steps", "is out of range", asked, str(steps)))
    if not 0 < lowest < highest <= HIGHEST:
        asked = f"0 < lowest < highest <= {HIGHEST:g}"
        problems.append(Problem("rates", "are out of range", asked, f"{lowest:g} to {highest:g}"))
    if problems:
        raise SpecError(problems)


def _run(
    model: nn.Module,
    task: Task,
    spec: TrainSpec,
    where: Numerics,
    group: str,
    rates: list[float],
    on_step: Callable[[int], object],
) -> tuple[list[float], bool]:
    """Return the loss before each update, and whether it ran away."""
    random_state.seed_everything(spec.seed)
    model.train()
    found, scaler = optimiser(model, spec), where.scaler()
    goal = objective(model, task, spec, where)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses: list[float] = []
    lowest = first = math.inf
    for step, rate in enumerate(rates):
        moved = set_rates(found, _at(spec, group, rate), step)
        batch = task.train_batch(step, spec.batch, spec.seed)
        if any(moved.values()):
            loss = float(goal.add_gradients(batch, spec.accumulation, scaler))
            if scaler is not None:
                scaler.unscale_(found)
            clip_all(found, trained, gradient_norm(trained), spec)
            if scaler is None:
                found.step()
            else:
                scaler.step(found)
                scaler.update()
            getattr(model, "after_update", lambda: None)()
            found.zero_grad(set_to_none=True)
        else:
            with torch.no_grad():
                pieces = batch.split(spec.accumulation)
                counts = [int(piece.mask.sum()) for piece in pieces]
                told = [goal.loss_of(piece.to(where.device))[0] for piece in pieces]
                weighted = zip(told, counts, strict=True)
                loss = math.fsum(float(one) * count for one, count in weighted)
                loss /= max(1, sum(counts))
        if not math.isfinite(loss):
            return losses, True
        losses.append(loss)
        on_step(step + 1)
        if len(losses) >= _RECENT:
            recent = math.fsum(losses[-_RECENT:]) / _RECENT
            first = recent if first == math.inf else first
            lowest = min(lowest, recent)
            if recent > max(_TIMES_LOWEST * lowest, _TIMES_FIRST * first):
                return losses, True
    return losses, False


def _at(spec: TrainSpec, group: str, rate: float) -> TrainSpec:
    """Return settings in which all rates stand still, the sought one at ``rate``."""
    still: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0}
    groups = tuple(
        each.model_copy(
            update=still | ({"learning_rate": rate, "rate": 1.0} if each.name == group else {})
        )
        for each in spec.groups
    )
    own = {} if group else {"learning_rate": rate}
    return spec.model_copy(update={**still, "groups": groups, **own})


@contextmanager
def _untouched(model: nn.Module, where: Numerics) -> Iterator[None]:
    """Leave weights, buffers, gradients, mode and random states as they were, whatever happens inside."""
    training = model.training
    held = [
        (tensor, tensor.detach().clone(), tensor.requires_grad)
        for tensor in (*model.parameters(), *model.buffers())
    ]
    devices = [] if where.device.type == "cpu" else [where.device]
    try:
        with torch.random.fork_rng(devices=devices, device_type=where.device.type):
            yield
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
        with torch.no_grad():
            for tensor, before, learns in held:
                tensor.copy_(before)
                tensor.requires_grad_(learns)
