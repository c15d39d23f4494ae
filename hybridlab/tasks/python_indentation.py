"""How deeply a line of Python is indented: a second question about the windows of the byte-level language model."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hybridlab.components.types import TensorType
from hybridlab.tasks.base import IGNORED, Batch, Measure, logits_type, task
from hybridlab.tasks.python_bytes import PythonBytes, PythonBytesParams, corpus

DEPTHS = 8
SPACES = 4
_EVERY = 32
"""Of so many windows of the training files one is read to find the most common depth; all of them take seconds."""
_BLANK = (9, 10, 13, 32)
"""Tabulator, line feed, carriage return and space."""


@task(
    "python_indentation",
    title="Python source, indentation",
    summary="At every byte of Python source code, say how deeply its line is indented.",
    source="The running Python's standard library (PSF-2.0), read from disk; https://docs.python.org/3/license.html",
    tests="Whether a model keeps what the beginning of a line said until its end.",
)
class PythonIndentation(PythonBytes):
    """The depth of the line that a byte stands in, 0 to 7 (7 or more), a level being four spaces.

    Windows are those of ``python_bytes`` at the same step and seed. A byte is asked from the first that is not blank in
    its line to its end; not where the line began before the window, as nobody can know it there. Nothing that comes
    later is needed, but the beginning of the line must be remembered.
    """

    measure: ClassVar[Measure] = "accuracy"

    def head_node(self) -> dict[str, Any]:
        """Return logits over the depths at every position."""
        return {"use": "lm_head", "vocab": DEPTHS}

    def output_type(self) -> TensorType:
        """Return logits (B, L, 8)."""
        return logits_type(DEPTHS, per_position=True)

    def windows(self, data: NDArray[np.uint8], starts: NDArray[np.int64]) -> Batch:
        """Return the windows, and the depth of the line that each byte stands in."""
        window = data[starts[:, None] + np.arange(self.length + 1)].astype(np.int64)[:, :-1]
        return Batch(torch.from_numpy(window), torch.from_numpy(depths(window)))

    def spelled_answer(self, answer: int) -> str:
        """Return a depth as its digit."""
        return str(answer)

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of always giving the most common depth of some training files, and of guessing."""
        return dict(_baselines(self.length))


def depths(window_BL: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the depth of each byte's line (B, L), IGNORED where it is not asked."""
    places = np.broadcast_to(np.arange(window_BL.shape[1]), window_BL.shape)
    ends = np.where(window_BL == 10, places, -1)
    before = np.maximum.accumulate(ends, axis=1)
    before = np.concatenate([np.full((len(ends), 1), -1), before[:, :-1]], axis=1)
    start = before + 1  # of the line, where one has begun in the window
    inked = np.where(np.isin(window_BL, _BLANK), window_BL.shape[1], places)
    later = np.minimum.accumulate(inked[:, ::-1], axis=1)[:, ::-1]
    first = np.take_along_axis(later, start, axis=1)
    asked = (before >= 0) & (first <= places)
    return np.where(asked, np.minimum((first - start) // SPACES, DEPTHS - 1), IGNORED)


@functools.cache
def _baselines(length: int) -> dict[str, float]:
    made = PythonIndentation(PythonBytesParams(length=length))
    data = corpus()["train"]
    window = data[: len(data) // length * length].reshape(-1, length)[::_EVERY].astype(np.int64)
    seen = depths(window)
    common = np.bincount(seen[seen != IGNORED], minlength=DEPTHS).argmax()
    asked = np.concatenate([b.targets[b.mask].numpy() for b in made.evaluation("test")])
    return {"most common depth": float((asked == common).mean()), "chance": 1 / DEPTHS}
