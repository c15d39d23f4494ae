"""A byte-level language model of a text of one's own."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hybridlab.components
from hybridlab.components.base import Params, field
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, stream, task
from hybridlab.tasks.own import keeping
from hybridlab.tasks.own.keeping import SPLITS, Arrays
from hybridlab.tasks.tokens import BYTES, ByteTask

EXAMPLE = "example"
"""Stands for HybridLab's own components, as one text."""
_EVALUATED_BYTES = {"val": 16 * 1024, "test": 64 * 1024}


@functools.lru_cache(maxsize=2)
def text(data: str) -> Arrays:
    """Return the bytes of each split: the first eight tenths of a kept text to train, then a tenth each.

    Raises:
        TaskError: there is none of that id, or it is no text.
    """
    found = keeping.unpacked(_example()) if data == EXAMPLE else keeping.arrays(data)
    if set(found) != set(SPLITS):
        raise TaskError(
            Problem(
                "task", "this data is no text; it has labels", keeping.find(data).task, "own_text"
            )
        )
    return found


@functools.cache
def _example() -> bytes:
    root = Path(hybridlab.components.__file__).parent
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return keeping.pack(b"".join((root / name).read_bytes() for name in files), "components.py")


class OwnTextParams(Params):
    """What can be set about a text of one's own."""

    data: str = field(
        EXAMPLE,
        help="Id of the text, as `hybridlab data add FILE` tells it; example is the source of HybridLab's components.",
    )
    length: int = field(128, ge=8, le=65_536, unit="bytes", help="Bytes a model reads at once.")


@task(
    "own_text",
    title="Your own text",
    summary="Predict each next byte of a text of yours.",
    source="A file of yours, kept in the HybridLab folder; the example is HybridLab's own source (Apache-2.0)",
    tests="What a model makes of your text; the end of it, a tenth, is never trained on.",
)
class OwnText(ByteTask):
    """Next-byte prediction; training windows start anywhere in the first eight tenths, the others do not overlap."""

    Params = OwnTextParams
    evaluated_bytes = _EVALUATED_BYTES

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return windows that start at random places of the training part."""
        data = self.part("train")
        starts = stream(self.name, "train", seed, step).integers(0, len(data) - self.length, batch)
        return self.windows(data, starts)

    def baselines(self) -> dict[str, float]:
        """Return test bits per byte of counting single bytes and pairs of the training part, and of zlib."""
        scored = list(self.evaluation("test"))
        before = np.concatenate([batch.inputs.numpy().ravel() for batch in scored])
        after = np.concatenate([batch.targets.numpy().ravel() for batch in scored])
        train = self.part("train").astype(np.int64)
        single = np.bincount(train, minlength=BYTES) + 1.0
        pairs = np.bincount(train[:-1] * BYTES + train[1:], minlength=BYTES**2) + 1.0
        pairs = pairs.reshape(BYTES, BYTES)
        packed = len(zlib.compress(after.astype(np.uint8).tobytes(), 9)) * 8 / len(after)
        return {
            "unigram": float(-np.log2(single / single.sum())[after].mean()),
            "bigram": float(-np.log2(pairs / pairs.sum(1, keepdims=True))[before, after].mean()),
            "zlib": float(packed),
        }

    def part(self, split: str) -> NDArray[np.uint8]:
        """Return the bytes of a part of the text.

        Raises:
            TaskError: it holds less than one window.
        """
        data: NDArray[np.uint8] = text(self.params.data)[split]
        if len(data) <= self.length + 1:
            raise TaskError(
                Problem(
                    "task_params.length",
                    f"is more than the {split} part of the text holds",
                    f"at most {max(8, len(data) - 2):,}",
                    f"{self.length:,}",
                )
            )
        return data

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings that pass the bigram within minutes on one core."""
        return {
            "steps": 600,
            "batch": 16,
            "learning_rate": 3e-3,
            "warmup_steps": 40,
            "weight_decay": 0.05,
            "eval_every": 100,
            "checkpoint_every": 100,
        }
