"""Selective copying of Mechanistic Architecture Design: write down the tokens that stood among blanks, in order."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import model_validator

from hybridlab.components.base import field
from hybridlab.tasks.base import IGNORED, task
from hybridlab.tasks.mad_data import SOURCE, Integers, Mad, MadParams, Uniforms, whole


class MadCopyingParams(MadParams):
    """What can be set about selective copying."""

    length: int = field(256, ge=4, le=16_384, unit="tokens", help="Tokens of a sequence.")
    tokens: int = field(16, ge=1, le=4_096, unit="tokens", help="Tokens to copy in a sequence.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 2 * self.tokens + 1 >= self.length:
            raise ValueError(
                f"{self.tokens} tokens to copy need a length of at least {2 * self.tokens + 2}, not {self.length}"
            )
        return self


@task(
    "mad_selective_copying",
    title="MAD: selective copying",
    summary="Pick some tokens out of blanks and write them down in order after the token that asks.",
    source=SOURCE,
    tests="Whether a model keeps what matters, and its order, over a length that does not matter.",
)
class MadSelectiveCopying(Mad):
    """Tokens with blanks before each of them, a token that asks, and as many blanks, where the answers go.

    Each blank of the first part goes before a token drawn evenly, so the last token stands right before the question.
    The other ``selective_copying`` places its symbols evenly instead and is shorter.
    """

    Params = MadCopyingParams

    @property
    def symbols(self) -> int:
        """How many tokens may have to be copied; a blank and the token that asks follow them."""
        return int(self.params.vocab) - 2

    @property
    def _blanks(self) -> int:
        return int(self.params.length) - 2 * int(self.params.tokens) - 1

    @property
    def _numbers(self) -> int:
        return int(self.params.tokens) + self._blanks

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        count, batch = int(self.params.tokens), len(uniforms)
        blank, ask = self.symbols, self.symbols + 1
        rows = np.arange(batch)[:, None]
        symbols = whole(uniforms[:, :count], self.symbols)
        before = np.zeros((batch, count), dtype=np.int64)
        np.add.at(before, (rows, whole(uniforms[:, count:], count)), 1)
        places = np.cumsum(before, axis=1) + np.arange(count)
        inputs = np.full((batch, int(self.params.length)), blank, dtype=np.int64)
        targets = np.full_like(inputs, IGNORED)
        inputs[rows, places] = symbols
        inputs[:, -count - 1], targets[:, -count:] = ask, symbols
        return inputs, targets

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any token."""
        return {"chance": 1 / self.symbols}

    def spelled(self, token: int) -> str:
        """Return a token as people read it."""
        return {self.symbols: "·", self.symbols + 1: "?"}.get(token, str(token))
