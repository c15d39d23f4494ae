"""A byte-level language model of Python source code, on the standard library that every machine has."""

from __future__ import annotations

import functools
import hashlib
import os
import sysconfig
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridlab.components.base import Params, field
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, stream, task
from hybridlab.tasks.tokens import BYTES, ByteTask

SKIPPED = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
)
"""Folders left out: tests, what is not the library, and generated tables."""
_EVALUATED_BYTES = {"val": 64 * 1024, "test": 256 * 1024}


def split_of(relative: str) -> str:
    """Return the split of a file by its path in the library, the same everywhere: 80 % train, 10 % val and test."""
    bucket = int.from_bytes(hashlib.sha256(relative.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "val" if bucket < 90 else "test"


def library_files(root: Path) -> list[str]:
    """Return the library's own source files by their paths below ``root``, sorted."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        below = Path(folder).relative_to(root)
        found += [(below / name).as_posix() for name in names if name.endswith(".py")]
    return sorted(found)


@functools.cache
def corpus() -> dict[str, NDArray[np.uint8]]:
    """Return the bytes of each split, its files one after the other, in memory as uint8.

    Raises:
        TaskError: this Python has no readable standard library sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, list[bytes]] = {"train": [], "val": [], "test": []}
    for relative in library_files(root):
        try:
            parts[split_of(relative)].append((root / relative).read_bytes())
        except OSError:
            continue
    data = {name: np.frombuffer(b"".join(files), dtype=np.uint8) for name, files in parts.items()}
    if min(len(array) for array in data.values()) < _EVALUATED_BYTES["test"]:
        raise TaskError(
            Problem(
                str(root),
                "does not hold enough of the standard library's sources for python_bytes",
                "some megabytes of .py files",
                f"{sum(len(array) for array in data.values()):,} bytes",
                "use a Python that was installed with its library as files",
            )
        )
    return data


class PythonBytesParams(Params):
    """What can be set about the byte-level language model."""

    length: int = field(256, ge=8, le=65_536, unit="bytes", help="Bytes a model reads at once.")


@task(
    "python_bytes",
    title="Python source, byte by byte",
    summary="Predict each next byte of the Python standard library's own source code.",
    source="The running Python's standard library (PSF-2.0), read from disk; https://docs.python.org/3/license.html",
    tests="What a model learns of real text: spelling, structure and long-range agreement.",
)
class PythonBytes(ByteTask):
    """Next-byte prediction; files, not bytes, are split, so no test file is ever trained on.

    Training windows start anywhere; validation and test are fixed windows spread evenly over their files. A different
    Python version has different sources and so different figures.
    """

    Params = PythonBytesParams
    evaluated_bytes = _EVALUATED_BYTES

    def part(self, split: str) -> NDArray[np.uint8]:
        """Return the bytes of a split's files."""
        data: NDArray[np.uint8] = corpus()[split]
        return data

    @property
    def train_size(self) -> int | None:
        """Windows without overlap that the training files hold."""
        return len(corpus()["train"]) // self.length

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return windows that start at random places of the training files."""
        data = corpus()["train"]
        starts = stream("python_bytes", "train", seed, step).integers(
            0, len(data) - self.length, batch
        )
        return self.windows(data, starts)

    def baselines(self) -> dict[str, float]:
        """Return test bits per byte of counting models fitted to the training files, and of zlib.

        Unigram and bigram (add-one smoothing) are scored on exactly the bytes that a model is scored on; a model's
        first answer in a window has one byte to go by, as the bigram has. zlib -9 compresses those bytes as one stream.
        """
        return dict(_baselines(self.length))

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


@functools.cache
def _baselines(length: int) -> dict[str, float]:
    data, windows = corpus(), list(PythonBytes(PythonBytesParams(length=length)).evaluation("test"))
    before = np.concatenate([batch.inputs.numpy().ravel() for batch in windows])
    after = np.concatenate([batch.targets.numpy().ravel() for batch in windows])
    train = data["train"].astype(np.int64)
    single = np.bincount(train, minlength=BYTES) + 1.0
    pairs = np.bincount(train[:-1] * BYTES + train[1:], minlength=BYTES * BYTES) + 1.0
    pairs = pairs.reshape(BYTES, BYTES)
    unigram = -np.log2(single / single.sum())[after].mean()
    bigram = -np.log2(pairs / pairs.sum(1, keepdims=True))[before, after].mean()
    packed = len(zlib.compress(after.astype(np.uint8).tobytes(), 9)) * 8 / len(after)
    return {"unigram": float(unigram), "bigram": float(bigram), "zlib": float(packed)}
