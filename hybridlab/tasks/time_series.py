"""Time series of the UCR and UEA archives that the package sktime ships, read from its files without importing it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridlab.components.base import Params, field
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, Task, logits_type, task
from hybridlab.tasks.epochs import epoch_indices
from hybridlab.tasks.splits import same_samples, split_by_group

Dataset = Literal[
    "JapaneseVowels", "BasicMotions", "ItalyPowerDemand", "ArrowHead", "OSULeaf", "ACSF1"
]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without reading it."""

    channels: int
    length: int
    """Values of the longest series."""
    classes: int
    train: int
    """Series of the published training split, from which validation is taken too."""
    test: int
    about: str


FACTS: dict[str, Facts] = {
    "JapaneseVowels": Facts(
        12, 29, 9, 270, 370, "speakers of two vowels, by 12 coefficients of sound"
    ),
    "BasicMotions": Facts(
        6, 100, 4, 40, 40, "movements, by the acceleration and turning of a watch"
    ),
    "ItalyPowerDemand": Facts(
        1, 24, 2, 67, 1029, "half-years, by the hours of a day's power demand"
    ),
    "ArrowHead": Facts(1, 251, 3, 36, 175, "types of arrowheads, by their outline"),
    "OSULeaf": Facts(1, 427, 6, 200, 242, "trees, by the outline of a leaf"),
    "ACSF1": Facts(1, 1460, 10, 100, 100, "household devices, by their power over time"),
}
_VARIED = ("JapaneseVowels",)
"""Sets whose series are of several lengths; those of any other are all as long."""
PACKAGE = "sktime>=1.2,<2"
"""Only its files are read, so what it depends on is not needed; its bound on pandas is below the one tested here."""
_PATTERN = ("train", "train", "val", "train", "train")
_SPLIT_SEED = 20_261_101
_EVALUATION_BATCH = 256

Numbers = NDArray[np.float32]


def folder() -> Path:
    """Return where sktime keeps the files.

    Raises:
        TaskError: it is not installed.
    """
    package = importlib.util.find_spec("sktime")
    for place in (package.submodule_search_locations if package else None) or ():
        if (Path(place) / "datasets" / "data").is_dir():
            return Path(place) / "datasets" / "data"
    raise TaskError(
        Problem(
            "task",
            "the time series come with the package sktime, which is not installed",
            fix=f"pip install --no-deps '{PACKAGE}'",
        )
    )


def read_ts(text: str) -> tuple[list[Numbers], list[str]]:
    """Return the series of a .ts file, each (length, channels), and their class names.

    Raises:
        ValueError: it is not such a file, or a value is missing or not a number.
    """
    head, found, body = text.partition("@data")
    if not found or "@classlabel true" not in head.lower():
        raise ValueError("there is no @classLabel, or no @data")
    series, names = [], []
    for line in filter(None, map(str.strip, body.splitlines())):
        *channels, name = line.split(":")
        values = np.array([channel.split(",") for channel in channels], dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a value is missing")
        series.append(values.T)
        names.append(name.strip())
    return series, names


@functools.lru_cache(maxsize=2)
def splits(dataset: Dataset) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each split's series (n, L, C) float32 and classes (n,) int64.

    Every fifth of the published training series, class by class, is for validation; series that are equal stay
    together. Each channel is scaled by mean and deviation of what is left to train; shorter series end in zeros.

    Raises:
        TaskError: the files are missing or are not what they were.
    """
    published = {split: _read(dataset, split) for split in ("TRAIN", "TEST")}
    known = sorted(set(published["TRAIN"][1]))
    length = FACTS[dataset].length
    (trained, names), (tested, test_names) = published["TRAIN"], published["TEST"]
    labels = np.array([known.index(name) for name in names])
    x = np.stack([_padded(one, length) for one in trained])
    parts = split_by_group(same_samples(x), labels, _PATTERN, _SPLIT_SEED)
    seen = np.concatenate([trained[i] for i in parts["train"]])
    mean, deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-8

    def scaled(chosen: list[Numbers], answers: list[int]) -> tuple[Tensor, Tensor]:
        rows = np.stack([_padded((one - mean) / deviation, length) for one in chosen])
        return torch.from_numpy(np.ascontiguousarray(rows, np.float32)), torch.tensor(answers)

    result = {
        split: scaled([trained[i] for i in part], labels[part].tolist())
        for split, part in parts.items()
    }
    result["test"] = scaled(tested, [known.index(name) for name in test_names])
    return result


def _read(dataset: Dataset, split: str) -> tuple[list[Numbers], list[str]]:
    path, facts = folder() / dataset / f"{dataset}_{split}.ts", FACTS[dataset]
    expected = facts.train if split == "TRAIN" else facts.test
    try:
        series, names = read_ts(path.read_text(encoding="utf-8"))
        longest, channels = max(map(len, series)), {one.shape[1] for one in series}
        if len(series) != expected or longest > facts.length or channels != {facts.channels}:
            raise ValueError(f"it holds {len(series)} series of up to {longest} values")
    except (OSError, ValueError) as error:
        raise TaskError(
            Problem(
                str(path),
                f"cannot be read as the series of {dataset}",
                f"{expected} series of {facts.channels} channels",
                str(error),
                "install sktime again",
            )
        ) from None
    return series, names


def _padded(series: Numbers, length: int) -> Numbers:
    return np.pad(series, ((0, length - len(series)), (0, 0)))


def lengths(series: Tensor) -> Tensor:
    """Return how many values each of series (n, L, C) has (n,), without the zeros at its end."""
    places = torch.arange(1, series.shape[1] + 1)
    return series.ne(0).any(-1).mul(places).amax(1)


class TimeSeriesParams(Params):
    """What can be set about the time series."""

    dataset: Dataset = field("JapaneseVowels", help="Which of the shipped data sets.")


@task(
    "time_series",
    title="Time series",
    summary="Tell a speaker, a movement, a leaf or a household device from measured series.",
    source="The copies that sktime ships (BSD-3-Clause) of sets from the UCR and UEA archives, free for research: "
    "https://www.timeseriesclassification.com",
    tests="Whether a model finds what matters in measured series, with few of them to learn from.",
)
class TimeSeries(Task):
    """Series (B, L, C) of measured values, one class each; the test split is the published one."""

    Params: ClassVar[type[Params]] = TimeSeriesParams

    @property
    def dataset(self) -> Dataset:
        """Which data set it reads."""
        dataset: Dataset = self.params.dataset
        return dataset

    @property
    def facts(self) -> Facts:
        """What is known of the data set."""
        return FACTS[self.dataset]

    @property
    def classes(self) -> int:
        """How many answers there are."""
        return self.facts.classes

    def _labelled(self, split: str) -> tuple[Tensor, Tensor]:
        """Return a split's series (n, L, C) float32 and what is asked of each (n,) int64: its class."""
        return splits(self.dataset)[split]

    @property
    def length(self) -> int:
        """Values of the longest series; shorter ones end in zeros."""
        return self.facts.length

    @property
    def train_size(self) -> int | None:
        """How many training samples there are."""
        return len(splits(self.dataset)["train"][1])

    def input_node(self) -> dict[str, Any]:
        """Return a projection of the channels at each time."""
        return {"use": "pixel_series"}

    def head_node(self) -> dict[str, Any]:
        """Return a classifier of the data set's classes."""
        return {"use": "classifier", "classes": self.classes}

    def input_type(self) -> TensorType:
        """Return a series of the data set's channels."""
        return TensorType(TensorKind.SERIES, ("B", "L", self.facts.channels))

    def output_type(self) -> TensorType:
        """Return logits (B, classes)."""
        return logits_type(self.classes, per_position=False)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return the step's samples in the order of their epoch."""
        series, classes = self._labelled("train")
        chosen = torch.from_numpy(epoch_indices("time_series", len(classes), step, batch, seed))
        return Batch(series[chosen], classes[chosen])

    def ends(self, batch: Batch) -> Tensor | None:
        """Return how many values each series has, without the zeros at its end; None where all have as many."""
        return lengths(batch.inputs) if self.dataset in _VARIED else None

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield a split in its fixed order."""
        series, classes = self._labelled(split)
        for first in range(0, len(classes), _EVALUATION_BATCH):
            part = slice(first, first + _EVALUATION_BATCH)
            yield Batch(series[part], classes[part])

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of the nearest training series, of the most common class, and of guessing."""
        (series, classes), (tested, answers) = self._labelled("train"), self._labelled("test")
        nearest = classes[torch.cdist(tested.flatten(1), series.flatten(1)).argmin(1)]
        common = classes.bincount().argmax()
        return {
            "nearest series": (nearest == answers).float().mean().item(),
            "majority class": (answers == common).float().mean().item(),
            "chance": 1 / self.classes,
        }

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings for few series, which are soon known by heart."""
        return {
            "steps": 400,
            "batch": 32,
            "learning_rate": 2e-3,
            "warmup_steps": 30,
            "weight_decay": 0.1,
            "eval_every": 20,
            "checkpoint_every": 100,
        }
