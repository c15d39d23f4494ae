"""How long a spoken vowel lasts, as a number: asked of the very samples whose speaker ``time_series`` asks for."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hybridlab.tasks.base import task
from hybridlab.tasks.numbers import Numbers
from hybridlab.tasks.time_series import Dataset, TimeSeries, lengths, splits
from hybridlab.tasks.vowels_length import VowelsLengthParams


@task(
    "vowels_duration",
    title="Vowels, duration",
    summary="Say how many values a speaker's two vowels last, as a number.",
    source=TimeSeries.source,
    tests="Whether a model counts: its error is in values of the series, where other tasks have classes.",
)
class VowelsDuration(Numbers, TimeSeries):
    """The number of values of a series, 7 to 29, before the zeros at its end begin.

    Series are those of JapaneseVowels, the same at each step as with ``time_series`` and ``vowels_length``.
    """

    Params = VowelsLengthParams
    unit: ClassVar[str] = "values"

    @property
    def dataset(self) -> Dataset:
        """The one data set here whose series are of different lengths."""
        return "JapaneseVowels"

    def _labelled(self, split: str) -> tuple[Tensor, Tensor]:
        series, _ = splits(self.dataset)[split]
        return series, lengths(series).float()

    def answers(self, split: str) -> Tensor:
        """Return the number of values of every series of a split (n,)."""
        return self._labelled(split)[1]
