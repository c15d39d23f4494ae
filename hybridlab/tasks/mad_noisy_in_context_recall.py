"""Noisy in-context recall of Mechanistic Architecture Design: in-context recall with noise between the pairs."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hybridlab.components.base import field
from hybridlab.tasks.base import task
from hybridlab.tasks.mad_data import SOURCE
from hybridlab.tasks.mad_in_context_recall import MadInContextRecall, RecallParams


class NoisyRecallParams(RecallParams):
    """What can be set about noisy in-context recall."""

    vocab: int = field(32, ge=6, le=8_192, help="Different tokens, those of the noise included.")
    noise_vocab: int = field(16, ge=1, le=4_096, help="Tokens that are noise.")
    noise: float = field(0.2, ge=0, lt=1, help="Share of the pairs that are noise.")

    @model_validator(mode="after")
    def _leaves_tokens(self) -> Self:
        if self.vocab - self.noise_vocab < 4:
            raise ValueError(
                f"{self.noise_vocab} tokens of noise need a vocab of at least {self.noise_vocab + 4}, not {self.vocab}"
            )
        return self


@task(
    "mad_noisy_in_context_recall",
    title="MAD: noisy in-context recall",
    summary="In-context recall with tokens between the pairs that mean nothing.",
    source=SOURCE,
    tests="Whether a model looks up what it was shown and passes over what is irrelevant.",
)
class MadNoisyInContextRecall(MadInContextRecall):
    """As in-context recall, but a fifth of the pairs are two tokens of noise; at least one pair is none."""

    Params = NoisyRecallParams

    @property
    def noise(self) -> float:
        """Share of the pairs that are noise."""
        share: float = self.params.noise
        return share

    @property
    def noise_vocab(self) -> int:
        """How many tokens are noise; they follow the values."""
        count: int = self.params.noise_vocab
        return count
