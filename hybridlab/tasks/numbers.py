"""What tasks share whose answer is a number with a unit: the loss, the mean error, and what needs no learning."""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from hybridlab.components.types import TensorType
from hybridlab.tasks.base import Batch, Measure, Task, logits_type


class Numbers(Task):
    """A number for each sample: targets (B,) float32 in ``unit``, NaN where none is asked.

    A model gives one number (B, 1) in standard deviations from the mean of the training answers, so that losses of
    about 1 stand beside those of other tasks; the metric is the mean absolute error in ``unit``.
    """

    measure: ClassVar[Measure] = "mean_abs_error"
    unit: ClassVar[str]

    @abstractmethod
    def answers(self, split: str) -> Tensor:
        """Return what is asked of every sample of a split (n,) float32, in ``unit``."""

    def scale(self) -> tuple[float, float]:
        """Return the mean of the training answers and their standard deviation, in ``unit``."""
        return self._scale

    @functools.cached_property
    def _scale(self) -> tuple[float, float]:
        with _disable_current_modes():  # a step that is traced on fake tensors asks for it too
            known = self.answers("train").double()
            return float(known.mean()), max(float(known.std(correction=0)), 1e-12)

    def head_node(self) -> dict[str, Any]:
        """Return a head of one number."""
        return {"use": "classifier", "classes": 1}

    def output_type(self) -> TensorType:
        """Return (B, 1)."""
        return logits_type(1, per_position=False)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean square of the error in standard deviations (scalar), over what is asked."""
        mean, deviation = self.scale()
        wanted = (batch.targets.to(output.dtype) - mean) / deviation
        asked = ~wanted.isnan()
        square = torch.where(asked, output.squeeze(-1) - wanted, 0.0).square()
        return square.sum() / asked.sum().clamp(min=1)

    def score(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the absolute errors in ``unit`` (scalar, on the device), over what is asked."""
        mean, deviation = self.scale()
        given = output.squeeze(-1).float() * deviation + mean
        return (given - batch.targets).abs().nansum()

    def baselines(self) -> dict[str, float]:
        """Return the test error of always giving the median of the training answers, or their mean."""
        known, asked = self.answers("train"), self.answers("test")
        return {
            "training median": float((asked - known.median()).abs().mean()),
            "training mean": float((asked - known.mean()).abs().mean()),
        }
