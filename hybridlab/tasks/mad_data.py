"""What the tasks of Mechanistic Architecture Design share: a fixed number of training samples, and how they are scored.

Paper: https://arxiv.org/abs/2403.17844. Its accuracy averages over the tokens of the vocabulary, batch by batch; here
it is over all scored answers, which is nearly the same where answers are drawn evenly. It reports the best of six
(learning rate, weight decay) chosen on the test set; here there is a validation split to choose on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridlab.components.base import Params, field
from hybridlab.tasks.base import Batch, stream
from hybridlab.tasks.epochs import epoch_indices
from hybridlab.tasks.tokens import TokenTask

Integers = NDArray[np.int64]
Uniforms = NDArray[np.float64]
PAPER = "https://arxiv.org/abs/2403.17844"
SOURCE = f"Generated, as in Mechanistic Architecture Design: {PAPER}"
_EVALUATION_BATCH = 128
_EVALUATION_BATCHES = {"val": 2, "test": 10}


class MadParams(Params):
    """What can be set about each of them; defaults are the paper's."""

    vocab: int = field(16, ge=6, le=8_192, help="Different tokens, special ones included.")
    length: int = field(128, ge=4, le=4_096, unit="tokens", help="Tokens of a sequence.")
    train_examples: int = field(
        12_800,
        ge=1,
        le=10_000_000,
        unit="samples",
        help="Different training samples; they come again in each epoch.",
    )


class Mad(TokenTask):
    """Tokens in, tokens out; sample i of the training set is made from (seed, i) alone, so none is kept.

    A subclass turns rows of uniform random numbers into sequences.
    """

    Params = MadParams

    @property
    def train_size(self) -> int | None:
        """How many training samples there are."""
        size: int = self.params.train_examples
        return size

    @property
    def _numbers(self) -> int:
        """How many uniform numbers a sample is made of."""
        raise NotImplementedError

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        """Return inputs and targets (B, L) made of uniform numbers in 0..1 (B, numbers)."""
        raise NotImplementedError

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return the step's samples of the training set that the seed makes, in the order of their epoch."""
        chosen = epoch_indices(self.name, self.params.train_examples, step, batch, seed)
        rows = [stream(self.name, "train", seed, int(i)).random(self._numbers) for i in chosen]
        return _batch(*self._sequences(np.stack(rows), training=True))

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed sequences: 256 for validation, and the paper's 1,280 for test."""
        for index in range(_EVALUATION_BATCHES[split]):
            rows = stream(self.name, split, 0, index).random((_EVALUATION_BATCH, self._numbers))
            yield _batch(*self._sequences(rows, training=False))

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings of minutes; the paper's are 20,000 steps of 128 samples with rates from 1e-4 to 1e-3."""
        return {
            "steps": 800,
            "batch": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "weight_decay": 0.0,
            "eval_every": 100,
            "checkpoint_every": 200,
            "target": 0.995,
        }


def _batch(inputs: Integers, targets: Integers) -> Batch:
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))


def whole(uniforms: Uniforms, below: int | Integers) -> Integers:
    """Return uniform numbers in 0..1 as integers under ``below``, each as likely as another."""
    return (uniforms * below).astype(np.int64)
