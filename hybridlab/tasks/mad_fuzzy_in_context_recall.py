"""Fuzzy in-context recall of Mechanistic Architecture Design: keys and values are several tokens long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from hybridlab.components.base import field
from hybridlab.tasks.base import IGNORED, task
from hybridlab.tasks.mad_data import SOURCE, Integers, Mad, MadParams, Uniforms

Motif = tuple[int, ...]


class FuzzyRecallParams(MadParams):
    """What can be set about fuzzy in-context recall."""

    key_tokens: int = field(3, ge=1, le=16, unit="tokens", help="Most tokens of a key.")
    value_tokens: int = field(3, ge=1, le=16, unit="tokens", help="Most tokens of a value.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        pair = self.key_tokens + self.value_tokens
        if self.length < 3 * pair:
            raise ValueError(
                f"keys and values of {pair} tokens together need a length of at least {3 * pair}, not {self.length}"
            )
        if max(self.key_tokens, self.value_tokens) > (self.vocab - 1) // 2:
            needed = 2 * max(self.key_tokens, self.value_tokens) + 1
            raise ValueError(
                f"keys and values without a token twice need a vocab of at least {needed}, not {self.vocab}"
            )
        return self


@task(
    "mad_fuzzy_in_context_recall",
    title="MAD: fuzzy in-context recall",
    summary="In-context recall where keys and values are one to three tokens long.",
    source=SOURCE,
    tests="Whether a model takes neighbouring tokens as one thing, and looks that up.",
)
class MadFuzzyInContextRecall(Mad):
    """Keys and values of one to three different tokens each, padded in front; no mark says where one ends.

    While training, every next token is a target. What is scored are all tokens of the values of keys that came before,
    and there keys are as long as they may be. The last pair has always been shown; in the paper's code it is missing
    from some sequences.
    """

    Params = FuzzyRecallParams
    needs_causal = True

    @property
    def keys(self) -> int:
        """How many tokens keys are made of: 0 to keys - 1."""
        return (int(self.params.vocab) - 1) // 2

    @property
    def values(self) -> int:
        """How many tokens values are made of; they follow those of the keys, and the padding follows them."""
        return int(self.params.vocab) - 1 - self.keys

    @property
    def _numbers(self) -> int:
        pair = 2 + int(self.params.key_tokens) + int(self.params.value_tokens)
        return (self.length // 2 + 2) * pair + 1

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        tokens = np.full((len(uniforms), self.length + 1), self.params.vocab - 1, dtype=np.int64)
        asked = np.zeros(tokens.shape, dtype=bool)
        for row, numbers in enumerate(uniforms.tolist()):
            sequence, scored = self._sequence(iter(numbers), training)
            tokens[row, -len(sequence) :], asked[row, -len(sequence) :] = sequence, scored
        if training:
            return tokens[:, :-1], tokens[:, 1:]
        return tokens[:, :-1], np.where(asked, tokens, IGNORED)[:, 1:]

    def _sequence(self, draw: Iterator[float], training: bool) -> tuple[list[int], list[bool]]:
        """Return the tokens of one sequence without its padding, and which are scored."""
        longest = int(self.params.key_tokens), int(self.params.value_tokens)
        least = 1 if training else longest[0]
        last_key = _motif(draw, 0, self.keys, least, longest[0])
        last_value = _motif(draw, self.keys, self.values, 1, longest[1])
        room = self.length - len(last_key) - len(last_value) - sum(longest)
        shown_by = int(next(draw) * (room - sum(longest) + 1))
        value_of: dict[Motif, Motif] = {}
        tokens: list[int] = []
        scored: list[bool] = []

        def add(key: Motif, value: Motif) -> None:
            tokens.extend((*key, *value))
            scored.extend([False] * len(key) + [key in value_of] * len(value))
            value_of[key] = value

        while len(tokens) < room:
            if len(tokens) >= shown_by and last_key not in value_of:
                add(last_key, last_value)
                continue
            key = _motif(draw, 0, self.keys, least, longest[0])
            value = _motif(draw, self.keys, self.values, 1, longest[1])
            add(key, last_value if key == last_key else value_of.get(key, value))
        add(last_key, last_value)
        return tokens, scored

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any token of a value."""
        return {"chance": 1 / self.values}

    def spelled(self, token: int) -> str:
        """Return a token as people read it."""
        return "·" if token == self.params.vocab - 1 else str(token)

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings of minutes; the values' lengths cannot be known, so nothing comes near to all answers."""
        return {**super().default_training(), "steps": 1000, "target": None}


def _motif(draw: Iterator[float], first: int, count: int, least: int, most: int) -> Motif:
    """Return ``least`` to ``most`` different tokens of ``first`` to ``first + count - 1``, each order as likely."""
    size = least + int(next(draw) * (most - least + 1))
    pool = list(range(first, first + count))
    for place in range(size):
        other = place + int(next(draw) * (count - place))
        pool[place], pool[other] = pool[other], pool[place]
    return tuple(pool[:size])
