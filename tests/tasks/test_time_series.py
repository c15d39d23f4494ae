"""The time series that sktime ships: read as its own files say, split without leakage, never importing it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from hybridlab.errors import TaskError
from hybridlab.tasks import time_series
from hybridlab.tasks.registry import catalogue, task
from hybridlab.tasks.time_series import FACTS, Dataset, folder, lengths, read_ts, splits
from hybridlab.training.defaults import prepare
from tests.tasks.conftest import WITH_SERIES

shipped = pytest.mark.skipif(not WITH_SERIES, reason="sktime's files are not installed")
everyone = pytest.mark.parametrize("dataset", FACTS)
HEAD = "@problemName x\n@univariate true\n@classLabel true a b\n@data\n"


@shipped
@everyone
def test_files_hold_what_is_known_of_them(dataset: Dataset) -> None:
    facts, parts = FACTS[dataset], splits(dataset)
    shapes = {name: tuple(part[0].shape[1:]) for name, part in parts.items()}
    assert set(shapes.values()) == {(facts.length, facts.channels)}
    assert len(parts["train"][1]) + len(parts["val"][1]) == facts.train
    assert len(parts["test"][1]) == facts.test
    for name in ("train", "test"):
        assert parts[name][1].unique().tolist() == list(range(facts.classes)), name
    assert 0.12 < len(parts["val"][1]) / facts.train < 0.28
    assert all(part[0].isfinite().all() for part in parts.values())


@shipped
@everyone
def test_no_validated_series_is_trained_on(dataset: Dataset) -> None:
    rows = {
        name: {row.numpy().tobytes() for row in part[0]} for name, part in splits(dataset).items()
    }
    assert not rows["train"] & rows["val"]


@shipped
@everyone
def test_scale_comes_from_what_is_trained_on_alone(dataset: Dataset) -> None:
    longest, (_, names) = FACTS[dataset].length, time_series._read(dataset, "TRAIN")
    series = splits(dataset)["train"][0].double()
    if dataset != "JapaneseVowels":  # its series end in zeros that are not scaled
        assert series.mean((0, 1)).abs().max() < 1e-4
        assert (series.std((0, 1), correction=0) - 1).abs().max() < 1e-3
    assert len(names) == FACTS[dataset].train and series.shape[1] == longest


@shipped
def test_shorter_series_end_in_zeros_and_keep_their_values() -> None:
    raw, names = time_series._read("JapaneseVowels", "TEST")
    series, classes = splits("JapaneseVowels")["test"]
    short = min(range(len(raw)), key=lambda i: len(raw[i]))
    assert len(raw[short]) == 7 and (series[short, 7:] == 0).all()
    # One linear map a channel leads from the file's values to the task's.
    channel = np.concatenate([one[:, 3] for one in raw])
    scaled = np.concatenate([s[: len(one), 3] for one, s in zip(raw, series.numpy(), strict=True)])
    slope, offset = np.polyfit(channel, scaled, 1)
    np.testing.assert_allclose(scaled, slope * channel + offset, atol=1e-4)
    assert [sorted(set(names)).index(name) for name in names] == classes.tolist()


@shipped
def test_the_nearest_series_is_what_a_loop_finds() -> None:
    (series, classes), (tested, answers) = (splits("ArrowHead")[key] for key in ("train", "test"))
    right = 0
    for row, answer in zip(tested, answers, strict=True):
        distances = [float((row - other).square().sum()) for other in series]
        right += int(classes[int(np.argmin(distances))]) == int(answer)
    found = task("time_series", dataset="ArrowHead").baselines()
    assert found["nearest series"] == pytest.approx(right / len(answers))
    assert found["nearest series"] > 0.7, (
        "the published figure is 0.80 with all of the training split"
    )


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sktime" else find(name)
    )
    splits.cache_clear()
    with pytest.raises(TaskError, match="pip install --no-deps 'sktime"):
        task("time_series").train_batch(0, 2, 0)
    (entry,) = (entry for entry in catalogue() if entry["name"] == "time_series")
    assert entry["baselines"] == {}
    with pytest.raises(TaskError, match="not installed"):
        folder()


def test_a_file_is_read_channel_by_channel() -> None:
    series, names = read_ts(HEAD + "1,2,3:4,5,6:a\n\n7,8:9,10: b \n")
    assert names == ["a", "b"]
    assert series[0].tolist() == [[1, 4], [2, 5], [3, 6]] and series[1].tolist() == [
        [7, 9],
        [8, 10],
    ]


@pytest.mark.parametrize(
    "text",
    ["", "1,2:a", "@data\n1:a", HEAD + "1,x:a", HEAD + "1,?:a", HEAD + "1,2:3:a", HEAD + "nan:a"],
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_ts(text)


@shipped
def test_files_that_changed_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setitem(FACTS, "ArrowHead", FACTS["ACSF1"])
    splits.cache_clear()
    with pytest.raises(TaskError, match="36 series of up to 251 values"):
        splits("ArrowHead")
    splits.cache_clear()


def test_types_are_told_without_reading_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_series, "splits", None)
    for name, facts in FACTS.items():
        made = task("time_series", dataset=name)
        assert made.length == facts.length and made.input_type().shape == ("B", "L", facts.channels)
        assert made.output_type().shape == ("B", facts.classes)
    with pytest.raises(TaskError, match="dataset"):
        task("time_series", dataset="GunPoint")


@shipped
def test_batches_go_through_the_training_series() -> None:
    made = task("time_series", dataset="BasicMotions")
    seen = torch.cat([made.train_batch(step, 8, 2).inputs for step in range(4)])
    assert {row.numpy().tobytes() for row in seen} == {
        row.numpy().tobytes() for row in splits("BasicMotions")["train"][0]
    }


@shipped
def test_lengths_are_those_of_the_files_and_every_group_occurs() -> None:
    made = task("vowels_length")
    raw, _ = time_series._read("JapaneseVowels", "TEST")
    batches = list(made.evaluation("test"))
    assert torch.cat([lengths(batch.inputs) for batch in batches]).tolist() == list(map(len, raw))
    groups = torch.cat([batch.targets for batch in batches])
    expected = [sum(len(one) >= bound for bound in (13, 16, 20)) for one in raw]
    assert groups.tolist() == expected
    shares = groups.bincount() / len(groups)
    assert len(shares) == 4 == made.output_type().shape[1]
    assert shares.min() > 0.1 and shares.max() < 0.4
    assert made.baselines()["chance"] == 0.25
    assert [made.spelled_answer(group) for group in range(4)] == [
        "under 13 values",
        "13 to 15 values",
        "16 to 19 values",
        "20 to 29 values",
    ]


@shipped
def test_speaker_and_length_are_asked_of_the_same_vowels() -> None:
    speaker, long = task("time_series"), task("vowels_length")
    for step in (0, 5):
        one, other = speaker.train_batch(step, 16, 3), long.train_batch(step, 16, 3)
        assert torch.equal(one.inputs, other.inputs) and not torch.equal(one.targets, other.targets)
    settings = {"task": "time_series", "tasks": {"of": [{"task": "vowels_length"}]}}
    both = [{"task": "time_series"}, {"task": "vowels_length"}]
    made, _ = prepare(settings | {"tasks": {"of": both, "sampling": "joint"}})
    assert made.metric == "test_accuracy_mean"
    leaves = [{"task": "time_series", "task_params": {"dataset": "OSULeaf"}}, both[1]]
    with pytest.raises(TaskError, match="reads other inputs"):
        prepare(settings | {"task_params": {"dataset": "OSULeaf"}, "tasks": {"of": leaves}})
