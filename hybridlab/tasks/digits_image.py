"""Handwritten digits as images: the same data and split as the sequence task, read in patches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hybridlab.components.types import TensorKind, TensorType
from hybridlab.tasks.base import task
from hybridlab.tasks.digits_data import SIDE, SOURCE, Digits

PATCH = 2


@task(
    "digits_image",
    title="Digits, as images",
    summary="Name a handwritten digit seen as an 8×8 image, cut into patches of 2×2.",
    source=SOURCE,
    tests="Whether a model sees what is in a small picture.",
)
class DigitsImage(Digits):
    """1,797 handwritten digits as images (B, 1, 8, 8); 70 % train, 10 % validation, 20 % test, stratified."""

    @property
    def length(self) -> int:
        """Sixteen patches."""
        return (SIDE // PATCH) ** 2

    def input_node(self) -> dict[str, Any]:
        """Return an embedding of 2×2 patches."""
        return {"use": "patch_embedding", "patch": PATCH}

    def input_type(self) -> TensorType:
        """Return images (B, 1, 8, 8)."""
        return TensorType(TensorKind.IMAGE, ("B", 1, SIDE, SIDE))

    def _inputs(self, images: Tensor) -> Tensor:
        return images[:, None]

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which every preset learns in a minute or two on one core."""
        return {
            "steps": 500,
            "batch": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "weight_decay": 0.05,
            "eval_every": 50,
            "checkpoint_every": 100,
        }
