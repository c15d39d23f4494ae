"""Running parity: the smallest task that needs a state, and that attention alone does not carry to new lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from hybridlab.components.base import Params, field
from hybridlab.components.types import TensorType
from hybridlab.tasks.base import IGNORED, Batch, Task, logits_type, stream, task, tokens_type

_EVALUATION_BATCH = 128
_EVALUATION_BATCHES = {"val": 2, "test": 8}


class ParityParams(Params):
    """What can be set about parity."""

    length: int = field(32, ge=1, le=4_096, unit="bits", help="Bits of a training sequence.")
    min_length: int | None = field(
        None,
        ge=1,
        le=4_096,
        unit="bits",
        help="Bits of the shortest training sequence, any up to the length being as likely; empty: all are as long.",
    )
    longer: int = field(
        96, ge=1, le=16_384, unit="bits", help="Bits of the longer sequences it is tested on too."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_length is not None and self.min_length > self.length:
            raise ValueError(
                f"the shortest sequence of {self.min_length} bits is over the length {self.length}"
            )
        return self


@task(
    "parity",
    title="Parity",
    summary="Say at every position whether the bits so far hold an odd number of ones; tested on longer ones too.",
    source="Generated. The state-tracking test of https://arxiv.org/abs/2404.08819 and https://arxiv.org/abs/2411.12537",
    tests="Whether a model keeps a state that every input can turn round, and carries it to new lengths.",
)
class Parity(Task):
    """Target t is the exclusive or of bits 0 to t, scored at every position; half of all answers are 1.

    Behind a sequence that is shorter than the length stand zeros that nothing is asked of.
    """

    Params = ParityParams

    @property
    def length(self) -> int:
        """Bits of a training sequence."""
        length: int = self.params.length
        return length

    @property
    def val_splits(self) -> tuple[str, ...]:
        """The training length, then the longer one; early stopping asks for both."""
        return ("val", f"val_{self.params.longer}")

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The training length, then the longer one."""
        return ("test", f"test_{self.params.longer}")

    def input_node(self) -> dict[str, Any]:
        """Return an embedding of two symbols."""
        return {"use": "token_embedding", "vocab": 2}

    def head_node(self) -> dict[str, Any]:
        """Return two logits at every position."""
        return {"use": "lm_head", "vocab": 2}

    def input_type(self) -> TensorType:
        """Return tokens (B, L)."""
        return tokens_type()

    def output_type(self) -> TensorType:
        """Return logits (B, L, 2)."""
        return logits_type(2, per_position=True)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return fresh random bits."""
        rng = stream(self.name, "train", seed, step)
        return _bits(rng, batch, self.length, self.params.min_length)

    def ends(self, batch: Batch) -> Tensor | None:
        """Return the bits of each sequence; None where all have as many."""
        return None if self.params.min_length is None else batch.mask.sum(1)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed random bits at the length that the split names."""
        stem, _, longer = split.partition("_")
        length = int(longer) if longer else self.length
        for index in range(_EVALUATION_BATCHES[stem]):
            least = None if longer else self.params.min_length
            yield _bits(stream(self.name, split, 0, index), _EVALUATION_BATCH, length, least)

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing."""
        return {"chance": 0.5}

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which a recurrent model generalises in seconds."""
        return {
            "steps": 1000,
            "batch": 64,
            "learning_rate": 5e-3,
            "warmup_steps": 20,
            "weight_decay": 0.0,
            "eval_every": 50,
            "checkpoint_every": 250,
            "target": 0.999,
        }


def _bits(rng: np.random.Generator, batch: int, length: int, least: int | None) -> Batch:
    bits = rng.integers(0, 2, (batch, length))
    answers = np.cumsum(bits, axis=1) % 2
    if least is not None:
        behind = np.arange(length) >= rng.integers(least, length + 1, (batch, 1))
        bits, answers = np.where(behind, 0, bits), np.where(behind, IGNORED, answers)
    return Batch(torch.from_numpy(bits), torch.from_numpy(answers))
