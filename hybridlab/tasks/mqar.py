"""Multi-query associative recall: look up the value that was shown with a key, several times in one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator

from hybridlab.components.base import Params, field
from hybridlab.tasks.base import IGNORED, Batch, stream, task
from hybridlab.tasks.tokens import TokenTask

BLANK = 0
_EVALUATION_BATCH = 128
_EVALUATION_BATCHES = {"val": 2, "test": 8}


class MqarParams(Params):
    """What can be set about associative recall."""

    pairs: int = field(8, ge=1, le=1_024, help="Pairs of key and value at the start of a sequence.")
    asks: int = field(
        8, ge=1, le=1_024, help="How often each key is asked for, as far as the length leaves room."
    )
    vocab: int = field(
        64, ge=5, le=65_536, help="Symbols: a blank, then keys, then as many values."
    )
    length: int = field(64, ge=3, le=16_384, unit="tokens", help="Tokens of a sequence.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 3 * self.pairs > self.length:
            raise ValueError(
                f"{self.pairs} pairs and their questions need a length of {3 * self.pairs}, not {self.length}"
            )
        if self.pairs > (self.vocab - 1) // 2:
            raise ValueError(
                f"{self.pairs} pairs need a vocab of at least {2 * self.pairs + 1}, not {self.vocab}"
            )
        return self


@task(
    "mqar",
    title="Associative recall",
    summary="After some pairs of key and value, answer each key with its value wherever it comes again.",
    source="Generated, after the task of https://arxiv.org/abs/2312.04927",
    tests="Whether a model looks up what it was shown, at any distance; a fixed-size state has to choose what to keep.",
)
class Mqar(TokenTask):
    """Keys and values alternate, then every key comes again, equally often and at random places, blanks between.

    Its value is the answer there; nothing else is scored, and answers are not shown. Keys of one sequence differ; so do
    its values. The paper asks for each key once; more questions a sequence shorten the plateau on which a model knows
    the values but not yet which belongs to which key.
    """

    Params = MqarParams

    @property
    def symbols(self) -> int:
        """How many keys there are, and how many values."""
        symbols: int = (self.params.vocab - 1) // 2
        return symbols

    @property
    def asks(self) -> int:
        """How often each key is asked for: as often as wanted and as there is room."""
        pairs: int = self.params.pairs
        wanted: int = self.params.asks
        return min(wanted, (self.length - 2 * pairs) // pairs)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return fresh sequences."""
        return self._sequences(stream(self.name, "train", seed, step), batch)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed sequences."""
        for index in range(_EVALUATION_BATCHES[split]):
            yield self._sequences(stream(self.name, split, 0, index), _EVALUATION_BATCH)

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any value, and of naming one of the values that were shown."""
        return {"chance": 1 / self.symbols, "one of the values shown": 1 / self.params.pairs}

    def _sequences(self, rng: np.random.Generator, batch: int) -> Batch:
        pairs, asks, symbols = self.params.pairs, self.asks, self.symbols
        keys = _distinct(rng, batch, symbols, pairs) + 1
        values = _distinct(rng, batch, symbols, pairs) + 1 + symbols
        inputs = np.full((batch, self.length), BLANK, dtype=np.int64)
        targets = np.full((batch, self.length), IGNORED, dtype=np.int64)
        inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
        places = _distinct(rng, batch, self.length - 2 * pairs, pairs * asks) + 2 * pairs
        rows = np.arange(batch)[:, None]
        inputs[rows, places] = np.tile(keys, (1, asks))
        targets[rows, places] = np.tile(values, (1, asks))
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which a model that can look back learns in seconds."""
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


def _distinct(rng: np.random.Generator, batch: int, below: int, count: int) -> np.ndarray[Any, Any]:
    """Return (batch, count) integers under ``below``, different from each other in each row."""
    return np.argsort(rng.random((batch, below)), axis=1)[:, :count]
