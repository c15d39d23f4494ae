"""Other questions about the handwritten digits, on the very same samples at each step: learnt beside the digit."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridlab.components.base import field
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.tasks.base import logits_type, task
from hybridlab.tasks.digits_data import SIDE, SOURCE, Digits, DigitsParams, digits
from hybridlab.tasks.digits_image import PATCH
from hybridlab.tasks.digits_sequence import DigitsSequence

INK = 0.0
"""A pixel is ink from half of the full darkness on; images are in -1..1."""


class AskedParams(DigitsParams):
    """What can be set about a question on the digits."""

    form: Literal["sequence", "image"] = field(
        "sequence", help="Read pixel by pixel, as digits_sequence, or as an image, as digits_image."
    )


class AskedDigits(Digits):
    """A question about an image with few answers; the inputs are those of digits_sequence or digits_image."""

    Params = AskedParams
    answers: ClassVar[int]

    @property
    def length(self) -> int:
        """Sixty-four pixels, or sixteen patches."""
        return (SIDE // PATCH) ** 2 if self._square else SIDE * SIDE

    @property
    def _square(self) -> bool:
        return bool(self.params.form == "image")

    def input_node(self) -> dict[str, Any]:
        """Return a reading of pixels, or an embedding of 2×2 patches."""
        if self._square:
            return {"use": "patch_embedding", "patch": PATCH}
        return {"use": "pixel_series"}

    def input_type(self) -> TensorType:
        """Return series (B, 64, 1), or images (B, 1, 8, 8)."""
        if self._square:
            return TensorType(TensorKind.IMAGE, ("B", 1, SIDE, SIDE))
        return TensorType(TensorKind.SERIES, ("B", SIDE * SIDE, 1))

    def _inputs(self, images: Tensor) -> Tensor:
        return images[:, None] if self._square else images.reshape(-1, SIDE * SIDE, 1)

    def head_node(self) -> dict[str, Any]:
        """Return a classifier of the answers."""
        return {"use": "classifier", "classes": self.answers}

    def output_type(self) -> TensorType:
        """Return logits (B, N)."""
        return logits_type(self.answers, per_position=False)

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of always giving the most common answer of the training images, and of guessing."""
        common = self._targets("train").bincount(minlength=self.answers).argmax()
        majority = (self._targets("test") == common).float().mean().item()
        return {"majority class": majority, "chance": 1 / self.answers}

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return the settings of digits_sequence."""
        return DigitsSequence.default_training()


@task(
    "digits_parity",
    title="Digits, odd or even",
    summary="Say whether a handwritten digit is odd.",
    source=SOURCE,
    tests="Whether a model tells digits apart where it is asked for less than the digit.",
)
class DigitsParity(AskedDigits):
    """1 where the digit is odd, else 0."""

    answers = 2

    def _targets(self, split: str) -> Tensor:
        return digits(split)[1] % 2


@task(
    "digits_strokes",
    title="Digits, strokes crossed",
    summary="Count the strokes that a line through a handwritten digit crosses: a stand-in for the number of strokes.",
    source=SOURCE,
    tests="Whether a model sees shape, where digits of one class differ.",
)
class DigitsStrokes(AskedDigits):
    """How many strokes a straight line through the image crosses at most, counted from the pixels: 0 to 4 answers.

    Nobody wrote down how many strokes these digits were drawn with. In their place: ink is a pixel of at least half the
    full darkness; a row or a column crosses as many strokes as it has runs of ink; the answer is the largest number of
    any row plus that of any column, less two. A plain line has 0, an 8 has 2 or more. It is that of the image before
    ``augment`` moves it.
    """

    answers = 4

    def _targets(self, split: str) -> Tensor:
        return torch.from_numpy(strokes(split))


@functools.cache
def strokes(split: str) -> NDArray[np.int64]:
    """Return the answer of ``digits_strokes`` for every image of a split (n,), from 0 to 3 (3 or more)."""
    ink = digits(split)[0].numpy() >= INK
    most: NDArray[np.int64] = runs(ink, axis=2).max(1) + runs(ink, axis=1).max(1)
    return np.minimum(np.maximum(most - 2, 0), DigitsStrokes.answers - 1)


def runs(ink: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """Return the number of unbroken runs of ink along an axis of images (n, 8, 8)."""
    before = np.roll(ink, 1, axis=axis)
    first = [slice(None)] * 3
    first[axis] = slice(0, 1)
    before[tuple(first)] = False
    return np.asarray((ink & ~before).sum(axis=axis))
