"""Selective copying: remember the symbols among noise, then write them down in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator

from hybridlab.components.base import Params, field
from hybridlab.tasks.base import IGNORED, Batch, stream, task
from hybridlab.tasks.tokens import TokenTask

NOISE, MARKER = 0, 1
_FIRST_SYMBOL = 2
_EVALUATION_BATCH = 128
_EVALUATION_BATCHES = {"val": 2, "test": 8}


class SelectiveCopyingParams(Params):
    """What can be set about selective copying."""

    symbols: int = field(8, ge=1, le=1_024, help="Symbols to remember in a sequence.")
    vocab: int = field(
        16, ge=3, le=65_536, help="Tokens: noise, the marker that asks, then the symbols."
    )
    length: int = field(
        64,
        ge=2,
        le=16_384,
        unit="tokens",
        help="Tokens of a sequence, the answers at its end included.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 2 * self.symbols > self.length:
            raise ValueError(
                f"{self.symbols} symbols and their answers need a length of {2 * self.symbols}, not {self.length}"
            )
        return self


@task(
    "selective_copying",
    title="Selective copying",
    summary="Pick some symbols out of noise and write them down in order at the end.",
    source="Generated, after the task of https://arxiv.org/abs/2312.00752 (section 4.1.1)",
    tests="Whether a model keeps what matters and lets go of the rest.",
)
class SelectiveCopying(TokenTask):
    """Symbols stand at random places among noise; at the markers that end the sequence they are asked for in order."""

    Params = SelectiveCopyingParams

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return fresh sequences."""
        return self._sequences(stream(self.name, "train", seed, step), batch)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed sequences."""
        for index in range(_EVALUATION_BATCHES[split]):
            yield self._sequences(stream(self.name, split, 0, index), _EVALUATION_BATCH)

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any symbol."""
        return {"chance": 1 / (self.params.vocab - _FIRST_SYMBOL)}

    def _sequences(self, rng: np.random.Generator, batch: int) -> Batch:
        symbols, room = self.params.symbols, self.length - self.params.symbols
        places = np.sort(np.argsort(rng.random((batch, room)), axis=1)[:, :symbols])
        chosen = rng.integers(_FIRST_SYMBOL, self.params.vocab, (batch, symbols))
        inputs = np.full((batch, self.length), NOISE, dtype=np.int64)
        targets = np.full((batch, self.length), IGNORED, dtype=np.int64)
        inputs[np.arange(batch)[:, None], places] = chosen
        inputs[:, room:], targets[:, room:] = MARKER, chosen
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which most presets learn in a few minutes on one core."""
        return {
            "steps": 2000,
            "batch": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "weight_decay": 0.0,
            "eval_every": 100,
            "checkpoint_every": 250,
            "target": 0.995,
        }
