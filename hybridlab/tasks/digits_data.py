"""scikit-learn's handwritten digits: 1,797 real 8×8 images, split once and for all, batched by epoch."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridlab.components.base import Params, field
from hybridlab.components.types import TensorType
from hybridlab.tasks.base import Batch, Task, logits_type, stream
from hybridlab.tasks.epochs import epoch_indices

SOURCE = (
    "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits "
    "(E. Alpaydin, C. Kaynak, 1998; CC BY 4.0), the copy that scikit-learn ships"
)
CLASSES = 10
SIDE = 8
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_SPLIT_SEED = 20_240_501
_EVALUATION_BATCH = 256


@functools.cache
def split_indices() -> dict[str, NDArray[np.int64]]:
    """Return the positions of each split in the data set: stratified by class, fixed for ever, disjoint."""
    labels = _raw()[1]
    rng = np.random.Generator(np.random.Philox(key=_SPLIT_SEED))
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SHARES}
    for label in range(CLASSES):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(rng.random(len(members)), kind="stable")]
        ends = np.rint(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
        for name, part in zip(SHARES, np.split(order, ends[:-1]), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()}


@functools.cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """Return a split's images (n, 8, 8) float32 in -1..1 and its labels (n,) int64."""
    images, labels = _raw()
    index = split_indices()[split]
    scaled = images[index].astype(np.float32) / 8.0 - 1.0
    return torch.from_numpy(scaled), torch.from_numpy(labels[index].astype(np.int64))


@functools.cache
def _raw() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all images (n, 8, 8) and labels (n,) as scikit-learn does, from its file: importing it takes 2 s."""
    package = importlib.util.find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


def shifted(images: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Return images (B, 8, 8) moved by offsets (B, 2) in -1..1 pixels; what enters is background (-1)."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), value=-1.0)
    rows = torch.from_numpy(offsets[:, :1] + 1) + torch.arange(SIDE)
    columns = torch.from_numpy(offsets[:, 1:] + 1) + torch.arange(SIDE)
    return padded[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


class DigitsParams(Params):
    """What can be set about the digits."""

    augment: bool = field(
        False, help="Move each training image by up to one pixel, drawn anew at every step."
    )


class Digits(Task):
    """The part that the sequence and the image task share; they differ in the shape of the inputs."""

    Params = DigitsParams

    def _inputs(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def train_size(self) -> int | None:
        """How many training samples there are."""
        return len(split_indices()["train"])

    def _targets(self, split: str) -> Tensor:
        """Return what is asked of each image of a split (n,) int64: the digit."""
        return digits(split)[1]

    def head_node(self) -> dict[str, Any]:
        """Return a classifier of ten digits."""
        return {"use": "classifier", "classes": CLASSES}

    def output_type(self) -> TensorType:
        """Return logits (B, 10)."""
        return logits_type(CLASSES, per_position=False)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return the step's samples in the order of their epoch; a batch may reach into the next epoch."""
        images, labels = digits("train")[0], self._targets("train")
        chosen = torch.from_numpy(epoch_indices("digits", len(labels), step, batch, seed))
        picked = images[chosen]
        if self.params.augment:
            offsets = stream("digits", "shift", seed, step).integers(-1, 2, (batch, 2))
            picked = shifted(picked, offsets)
        return Batch(self._inputs(picked), labels[chosen])

    def fixed_inputs(self) -> Tensor | None:
        """Return all training digits in their own order; None where each step moves them."""
        return None if self.params.augment else self._inputs(digits("train")[0])

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield a split in its fixed order."""
        images, labels = digits(split)[0], self._targets(split)
        for first in range(0, len(labels), _EVALUATION_BATCH):
            part = slice(first, first + _EVALUATION_BATCH)
            yield Batch(self._inputs(images[part]), labels[part])

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of always answering the most common training digit, and of guessing."""
        common = digits("train")[1].bincount(minlength=CLASSES).argmax()
        majority = (digits("test")[1] == common).float().mean().item()
        return {"majority class": majority, "chance": 1 / CLASSES}
