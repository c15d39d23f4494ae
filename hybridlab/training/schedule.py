"""The learning rate of a step: linear warm-up, then a cosine or a constant. A pure function, so it needs no state."""

from __future__ import annotations

import math

from hybridlab.training.spec import TrainSpec


def learning_rate(spec: TrainSpec, step: int) -> float:
    """Return the learning rate of the update that follows ``step`` updates.

    Warm-up reaches the peak with its last step; the cosine (https://arxiv.org/abs/1608.03983) comes down to
    ``final_rate`` of the peak with the last step of all.
    """
    warmup = min(spec.warmup_steps, spec.steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.learning_rate
    share = (step + 1 - warmup) / max(1, spec.steps - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
    return spec.learning_rate * (spec.final_rate + (1.0 - spec.final_rate) * cosine)
