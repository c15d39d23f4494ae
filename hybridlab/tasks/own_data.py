"""Rows, series or images of one's own, with a class each."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hybridlab.components.base import Params, field
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, Task, logits_type, task
from hybridlab.tasks.epochs import epoch_indices
from hybridlab.tasks.own import keeping
from hybridlab.tasks.own.examples import patients, wines
from hybridlab.tasks.own.keeping import SPLITS, Kept

EXAMPLE = "example"
"""Stands for one of scikit-learn's tables, taken as a file that a user brings."""
_EXAMPLES = {"own_data": wines, "own_numbers": patients}
_EVALUATION_BATCH = 256

Parts = dict[str, tuple[Tensor, Tensor]]


@functools.lru_cache(maxsize=2)
def scaled(task: str, data: str) -> Parts:
    """Return each split's inputs (n, ...) float32 and answers (n,), classes int64 or numbers float32, of kept data.

    Columns of a table, and channels of series and images, are scaled by mean and deviation of the training split.

    Raises:
        TaskError: there is none of that id, or ``task`` does not learn from it.
    """
    about = known(task, data)
    held = keeping.unpacked(_EXAMPLES[task]()) if data == EXAMPLE else keeping.arrays(data)
    inputs, answers = torch.from_numpy(held["inputs"]), torch.from_numpy(held["labels"])
    split = torch.from_numpy(held["split"])
    parts = {key: split == number for number, key in enumerate(SPLITS)}
    seen = inputs[parts["train"]].double()
    over = (
        (0, 2, 3)
        if about.schema.shape == "image"
        else (0,)
        if about.schema.form == "rows"
        else (0, 1)
    )
    mean, deviation = seen.mean(over, keepdim=True), seen.std(over, keepdim=True, correction=0)
    deviation = torch.where(deviation > 1e-12, deviation, 1.0)
    return {
        key: (((inputs[part].double() - mean) / deviation).float(), answers[part])
        for key, part in parts.items()
    }


def known(task: str, data: str) -> Kept:
    """Return what is known of kept data, or of a task's example.

    Raises:
        TaskError: there is none of that id, or ``task`` does not learn from it.
    """
    about = keeping.described(_EXAMPLES[task]()) if data == EXAMPLE else keeping.find(data)
    if about.task != task:
        held = "text" if about.schema.form == "text" else f"answered by {about.schema.answers}"
        raise TaskError(
            Problem("task", f"this data is {held}, which {task} does not learn", about.task, task)
        )
    return about


class OwnDataParams(Params):
    """What can be set about data of one's own."""

    data: str = field(
        EXAMPLE,
        help="Id of the data, as `hybridlab data add FILE` tells it; example is a table of wines.",
    )


@task(
    "own_data",
    title="Your own data",
    summary="Tell the class of a row, a series or an image from a CSV, Parquet or npz file of yours.",
    source="A file of yours, kept in the HybridLab folder; the example is scikit-learn's copy of "
    "https://archive.ics.uci.edu/dataset/109/wine (CC BY 4.0)",
    tests="What a model makes of your data; equal samples never stand in two splits.",
)
class OwnData(Task):
    """Classes of samples from a file; rows of a table are read as a series, a column at each position."""

    Params = OwnDataParams

    @property
    def about(self) -> Kept:
        """What is known of the data."""
        return known(self.name, self.params.data)

    @property
    def length(self) -> int:
        """Positions of a series, or values of an image."""
        shape = self.about.shape
        return shape[1] * shape[2] if self.about.schema.shape == "image" else shape[0]

    @property
    def train_size(self) -> int | None:
        """How many training samples there are."""
        return self.about.sizes["train"]

    def input_node(self) -> dict[str, Any]:
        """Return a projection of series, or an embedding of an image's patches."""
        if self.about.schema.shape == "series":
            return {"use": "pixel_series"}
        sides = self.about.shape[1:]
        patch = next(size for size in (4, 2, 7, 5, 3, 1) if not any(side % size for side in sides))
        return {"use": "patch_embedding", "patch": patch}

    def head_node(self) -> dict[str, Any]:
        """Return a classifier of the classes."""
        return {"use": "classifier", "classes": len(self.about.classes)}

    def input_type(self) -> TensorType:
        """Return series (B, L, C) or images (B, C, height, width)."""
        shape = self.about.shape
        if self.about.schema.shape == "image":
            return TensorType(TensorKind.IMAGE, ("B", *shape))
        return TensorType(TensorKind.SERIES, ("B", "L", shape[1]))

    def output_type(self) -> TensorType:
        """Return logits (B, classes)."""
        return logits_type(len(self.about.classes), per_position=False)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return the step's samples in the order of their epoch."""
        inputs, classes = scaled(self.name, self.params.data)["train"]
        chosen = torch.from_numpy(epoch_indices(self.name, len(classes), step, batch, seed))
        return Batch(inputs[chosen], classes[chosen])

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield a split in its fixed order."""
        inputs, classes = scaled(self.name, self.params.data)[split]
        for first in range(0, len(classes), _EVALUATION_BATCH):
            part = slice(first, first + _EVALUATION_BATCH)
            yield Batch(inputs[part], classes[part])

    def baselines(self) -> dict[str, float]:
        """Return the test accuracy of the nearest class mean of the training samples, and of the most common class."""
        parts = scaled(self.name, self.params.data)
        (inputs, classes), (tested, answers) = parts["train"], parts["test"]
        seen = classes.bincount().nonzero()[:, 0]
        means = torch.stack([inputs[classes == one].mean(0).flatten() for one in seen])
        nearest = seen[torch.cdist(tested.flatten(1), means).argmin(1)]
        common = classes.bincount().argmax()
        return {
            "nearest class mean": (nearest == answers).float().mean().item(),
            "majority class": (answers == common).float().mean().item(),
        }

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings for a small set."""
        return {
            "steps": 300,
            "batch": 32,
            "learning_rate": 2e-3,
            "warmup_steps": 30,
            "weight_decay": 0.05,
            "eval_every": 20,
            "checkpoint_every": 100,
        }
