"""Handwritten digits read pixel by pixel: a real classification task over 64 positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hybridlab.components.types import TensorKind, TensorType
from hybridlab.tasks.base import task
from hybridlab.tasks.digits_data import SIDE, SOURCE, Digits


@task(
    "digits_sequence",
    title="Digits, pixel by pixel",
    summary="Name a handwritten digit after reading its 64 pixels one after the other.",
    source=SOURCE,
    tests="Whether a model gathers a picture that comes pixel by pixel.",
)
class DigitsSequence(Digits):
    """1,797 handwritten digits as series (B, 64, 1); 70 % train, 10 % validation, 20 % test, stratified."""

    @property
    def length(self) -> int:
        """Sixty-four pixels."""
        return SIDE * SIDE

    def input_node(self) -> dict[str, Any]:
        """Return a linear reading of one pixel a position."""
        return {"use": "pixel_series"}

    def input_type(self) -> TensorType:
        """Return series (B, 64, 1)."""
        return TensorType(TensorKind.SERIES, ("B", SIDE * SIDE, 1))

    def _inputs(self, images: Tensor) -> Tensor:
        return images.reshape(-1, SIDE * SIDE, 1)

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which every preset learns in minutes on one core."""
        return {
            "steps": 500,
            "batch": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "weight_decay": 0.05,
            "eval_every": 50,
            "checkpoint_every": 100,
        }
