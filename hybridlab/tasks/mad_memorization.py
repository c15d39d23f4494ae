"""Memorisation of Mechanistic Architecture Design: learn one map from keys to values by heart."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pydantic import model_validator

from hybridlab.components.base import field
from hybridlab.tasks.base import IGNORED, stream, task
from hybridlab.tasks.mad_data import SOURCE, Integers, Mad, MadParams, Uniforms, whole


class MemorizationParams(MadParams):
    """What can be set about memorisation."""

    vocab: int = field(
        256, ge=6, le=65_536, help="Different tokens: keys, values, and the one that asks."
    )
    length: int = field(32, ge=2, le=4_096, unit="tokens", help="Tokens of a sequence.")
    train_examples: int = field(
        256,
        ge=1,
        le=10_000_000,
        unit="samples",
        help="Different training samples; they come again in each epoch.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.length % 2:
            raise ValueError(
                f"keys and questions alternate, so the length is even, not {self.length}"
            )
        return self


@task(
    "mad_memorization",
    title="MAD: memorisation",
    summary="Name the value of each key, from a map that is the same in every sequence.",
    source=SOURCE,
    tests="How much a model can learn by heart: nothing in a sequence tells the answer.",
)
class MadMemorization(Mad):
    """A key, then the token that asks; the key's value is the answer there. The map never changes."""

    Params = MemorizationParams

    @property
    def keys(self) -> int:
        """How many keys there are: tokens 0 to keys - 1; values follow, and the last token asks."""
        return (int(self.params.vocab) - 1) // 2

    @property
    def values(self) -> int:
        """How many values there are."""
        return int(self.params.vocab) - 1 - self.keys

    def value_of(self) -> Integers:
        """Return each key's value (keys,); no two keys share one."""
        order = stream(self.name, "map", 0, int(self.params.vocab)).permutation(self.values)
        return self.keys + order[: self.keys]

    @property
    def _numbers(self) -> int:
        return int(self.params.length) // 2

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        keys = whole(uniforms, self.keys)
        inputs = np.full((len(keys), 2 * self._numbers), int(self.params.vocab) - 1, dtype=np.int64)
        targets = np.full_like(inputs, IGNORED)
        inputs[:, 0::2], targets[:, 1::2] = keys, self.value_of()[keys]
        return inputs, targets

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any value."""
        return {"chance": 1 / self.values}

    def spelled(self, token: int) -> str:
        """Return a token as people read it."""
        return "?" if token == self.params.vocab - 1 else str(token)

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which most models have the map by heart in a minute."""
        return {**super().default_training(), "steps": 600}
