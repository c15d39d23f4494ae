"""The byte-level language model: files split, windows, and baselines counted again in another way."""

from __future__ import annotations

import math
import sysconfig
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridlab.errors import TaskError
from hybridlab.tasks import python_bytes
from hybridlab.tasks.python_bytes import corpus, library_files, split_of
from hybridlab.tasks.registry import task


def test_files_are_the_library_without_tests_and_each_is_in_one_split() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    files = library_files(root)
    assert {"os.py", "json/decoder.py", "asyncio/base_events.py"} <= set(files)
    assert not [
        name for name in files if {"test", "tests", "site-packages"} & set(name.split("/")[:-1])
    ]
    sizes = Counter[str]()
    for name in files:
        sizes[split_of(name)] += (root / name).stat().st_size
    assert {split: len(data) for split, data in corpus().items()} == dict(sizes)
    assert sizes["train"] > 5 * sizes["test"] > 0 and sizes["val"] > 0


def test_the_split_of_a_file_is_the_same_on_every_machine() -> None:
    names = ("os.py", "ast.py", "json/decoder.py", "asyncio/base_events.py", "typing.py", "pdb.py")
    assert [split_of(name) for name in names] == [
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
    ]


def test_memory_holds_one_byte_a_byte() -> None:
    assert all(data.dtype == np.uint8 and data.ndim == 1 for data in corpus().values())
    assert corpus() is corpus()


def test_targets_are_the_next_bytes() -> None:
    made = task("python_bytes", length=32)
    batch = made.train_batch(0, 8, 0)
    assert batch.inputs.shape == batch.targets.shape == (8, 32)
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    source = corpus()["train"].tobytes()
    for row, after in zip(batch.inputs, batch.targets[:, -1], strict=True):
        assert bytes([*row.tolist(), int(after)]) in source


@pytest.mark.parametrize(("split", "size"), [("val", 64 * 1024), ("test", 256 * 1024)])
def test_evaluation_windows_do_not_overlap_and_spread_over_the_split(split: str, size: int) -> None:
    made = task("python_bytes")
    starts = made.evaluation_starts(split)  # type: ignore[attr-defined]
    assert len(starts) * made.length == size
    assert np.diff(starts).min() >= made.length
    assert starts[0] == 0 and starts[-1] > 0.9 * (len(corpus()[split]) - made.length)
    assert sum(batch.targets.numel() for batch in made.evaluation(split)) == size


def test_windows_longer_than_a_split_are_refused_or_one() -> None:
    made = task("python_bytes", length=65_536)
    assert sum(len(batch.inputs) for batch in made.evaluation("val")) == 1


def test_baselines_are_those_that_counting_gives() -> None:
    made = task("python_bytes")
    scored = [
        (before, after)
        for batch in made.evaluation("test")
        for row in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
        for before, after in zip(*row, strict=True)
    ]
    source = corpus()["train"].tobytes()
    single, pairs = Counter(source), Counter(pairwise(source))
    first = Counter(source[:-1])
    unigram = -sum(math.log2((single[b] + 1) / (len(source) + 256)) for _, b in scored) / len(
        scored
    )
    bigram = -sum(math.log2((pairs[a, b] + 1) / (first[a] + 256)) for a, b in scored) / len(scored)
    found = made.baselines()
    assert found["unigram"] == pytest.approx(unigram, rel=1e-9)
    assert found["bigram"] == pytest.approx(bigram, rel=1e-9)
    packed = zlib.compress(bytes(after for _, after in scored), 9)
    assert found["zlib"] == pytest.approx(8 * len(packed) / len(scored))
    assert found["zlib"] < found["bigram"] < found["unigram"] < 8


def test_bits_per_byte_of_a_uniform_answer_is_eight() -> None:
    made = task("python_bytes", length=16)
    batch = made.train_batch(0, 4, 0)
    assert float(made.score(torch.zeros(4, 16, 256), batch)) / 64 == pytest.approx(8.0)
    assert float(made.loss(torch.zeros(4, 16, 256), batch)) == pytest.approx(8 * math.log(2))


def test_a_python_without_sources_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "os.py").write_text("import sys\n")
    monkeypatch.setattr(python_bytes.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(TaskError, match="does not hold enough of the standard library"):
        corpus.__wrapped__()
