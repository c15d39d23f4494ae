"""How long a spoken vowel lasts: asked of the very samples whose speaker ``time_series`` asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridlab.components.base import Params
from hybridlab.tasks.base import task
from hybridlab.tasks.time_series import Dataset, TimeSeries, lengths, splits

BOUNDS = (13, 16, 20)
"""The shortest length, in values, of each group but the first."""


class VowelsLengthParams(Params):
    """Nothing can be set."""


@task(
    "vowels_length",
    title="Vowels, how long",
    summary="Tell how long a speaker's two vowels last: short, middling, long or very long.",
    source=TimeSeries.source,
    tests="Whether a model counts the values of a series until it falls silent, whoever speaks.",
)
class VowelsLength(TimeSeries):
    """The group of a series' length, 7 to 29 values: 0 up to 12, 1 up to 15, 2 up to 19, 3 from 20 on.

    Series are those of JapaneseVowels, the same at each step as with ``time_series``; behind their end are zeros.
    """

    Params = VowelsLengthParams

    @property
    def dataset(self) -> Dataset:
        """The one data set here whose series are of different lengths."""
        return "JapaneseVowels"

    @property
    def classes(self) -> int:
        """Four groups."""
        return len(BOUNDS) + 1

    def _labelled(self, split: str) -> tuple[Tensor, Tensor]:
        series, _ = splits(self.dataset)[split]
        return series, torch.bucketize(lengths(series), torch.tensor(BOUNDS), right=True)

    def spelled_answer(self, answer: int) -> str:
        """Return a group as the lengths that it holds."""
        ends = (*BOUNDS, self.length + 1)
        if answer == 0:
            return f"under {ends[0]} values"
        return f"{ends[answer - 1]} to {ends[answer] - 1} values"
