"""In-context recall of Mechanistic Architecture Design: tell a key's value each time the key comes again."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from hybridlab.tasks.base import IGNORED, task
from hybridlab.tasks.mad_data import SOURCE, Integers, Mad, MadParams, Uniforms, whole


class RecallParams(MadParams):
    """What can be set about in-context recall."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.length % 2:
            raise ValueError(f"keys and values alternate, so the length is even, not {self.length}")
        return self


@task(
    "mad_in_context_recall",
    title="MAD: in-context recall",
    summary="Keys and values alternate; whenever a key comes again, name the value it had before.",
    source=SOURCE,
    tests="Whether a model looks up what it has just been shown, for every key that comes again.",
)
class MadInContextRecall(Mad):
    """Pairs of a key and its value; which value a key has is drawn anew for every sequence, and may be shared.

    While training, every next token is a target; what is scored are the values of keys that came before. A model reads
    one token less than ``length``: the last one is only an answer.
    """

    Params = RecallParams
    needs_causal = True

    @property
    def length(self) -> int:
        """Tokens that a model reads."""
        return int(self.params.length) - 1

    @property
    def noise(self) -> float:
        """Share of the pairs that are noise."""
        return 0.0

    @property
    def noise_vocab(self) -> int:
        """How many tokens are noise."""
        return 0

    @property
    def _pairs(self) -> int:
        return int(self.params.length) // 2

    @property
    def keys(self) -> int:
        """How many keys there are: tokens 0 to keys - 1."""
        return (int(self.params.vocab) - self.noise_vocab) // 2

    @property
    def values(self) -> int:
        """How many values there are; they follow the keys."""
        return int(self.params.vocab) - self.noise_vocab - self.keys

    @property
    def _numbers(self) -> int:
        return self.keys + 4 * self._pairs + 2

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        pairs, keys = self._pairs, self.keys
        cuts = np.cumsum([keys, pairs, pairs, 2 * pairs, 1])
        of_map, of_keys, of_shown, of_noise, of_kept, of_last = np.split(uniforms, cuts, axis=1)
        value_of = keys + whole(of_map, self.values)
        shown = of_shown >= self.noise
        np.put_along_axis(shown, whole(of_kept, pairs - 1), True, axis=1)
        chosen = whole(of_keys, keys)
        chosen[:, -1], shown[:, -1] = _one_shown(chosen, shown, keys, of_last[:, 0]), True
        tokens = np.empty((len(uniforms), 2 * pairs), dtype=np.int64)
        tokens[:, 0::2], tokens[:, 1::2] = chosen, np.take_along_axis(value_of, chosen, axis=1)
        if self.noise_vocab:
            noise = keys + self.values + whole(of_noise, self.noise_vocab)
            tokens = np.where(np.repeat(shown, 2, axis=1), tokens, noise)
        if training:
            return tokens[:, :-1], tokens[:, 1:]
        targets = np.full((len(uniforms), 2 * pairs - 1), IGNORED, dtype=np.int64)
        targets[:, 0::2] = np.where(_again(chosen, shown), tokens[:, 1::2], IGNORED)
        return tokens[:, :-1], targets

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of guessing any value, and of naming the last value that was shown."""
        right = asked = 0
        for batch in self.evaluation("test"):
            tokens, targets = batch.inputs.numpy(), batch.targets.numpy()
            is_value = (tokens >= self.keys) & (tokens < self.keys + self.values)
            latest = np.maximum.accumulate(np.where(is_value, np.arange(tokens.shape[1]), 0), 1)
            right += int((np.take_along_axis(tokens, latest, axis=1) == targets).sum())
            asked += int((targets != IGNORED).sum())
        return {"chance": 1 / self.values, "the last value shown": right / asked}


def _one_shown(
    keys: Integers, shown: NDArray[np.bool_], count: int, uniform: NDArray[np.float64]
) -> Integers:
    """Return for each row one of the different keys that are shown before the last pair, each as likely (B,)."""
    present = np.zeros((len(keys), count), dtype=bool)
    rows, places = np.nonzero(shown[:, :-1])
    present[rows, keys[rows, places]] = True
    rank = whole(uniform, present.sum(axis=1))
    chosen: Integers = np.argmax(np.cumsum(present, axis=1) > rank[:, None], axis=1)
    return chosen


def _again(keys: Integers, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say of each pair (B, pairs) whether it is shown and its key was shown before."""
    marked = np.where(shown, keys, -1 - np.arange(keys.shape[1]))
    order = np.argsort(marked, axis=1, kind="stable")
    ordered = np.take_along_axis(marked, order, axis=1)
    again = np.zeros(keys.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again
