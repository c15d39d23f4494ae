"""The digits: real images, split once and for all, every one seen once an epoch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hybridlab.tasks import digits_data
from hybridlab.tasks.digits_data import digits, shifted, split_indices
from hybridlab.tasks.registry import task


def test_splits_are_disjoint_complete_and_stratified() -> None:
    parts = split_indices()
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything.tolist()) == list(range(1797))
    labels = load_digits().target
    for name, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        for label in range(10):
            count = int((labels[parts[name]] == label).sum())
            assert count == pytest.approx(share * (labels == label).sum(), abs=1.01)


def test_no_test_image_is_in_the_training_split() -> None:
    train, test = (
        {image.numpy().tobytes() for image in digits(split)[0]} for split in ("train", "test")
    )
    assert not train & test


def test_they_are_read_as_scikit_learn_reads_them_without_importing_it() -> None:
    code = (
        "import sys; from hybridlab.tasks.registry import catalogue; assert catalogue(); "
        "print(sorted({'sklearn', 'scipy', 'pandas', 'sktime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    images, labels = digits_data._raw()
    data = load_digits()
    np.testing.assert_array_equal(images, data.images, strict=True)
    np.testing.assert_array_equal(labels, data.target, strict=True)


def test_values_are_the_images_scaled() -> None:
    index = split_indices()["val"]
    images, labels = digits("val")
    np.testing.assert_allclose((images.numpy() + 1) * 8, load_digits().images[index])
    assert labels.tolist() == load_digits().target[index].tolist()


def test_an_epoch_sees_every_image_once_and_the_next_one_in_another_order() -> None:
    made = task("digits_sequence", augment=False)
    count = len(digits("train")[1])
    seen = torch.cat([made.train_batch(step, 37, 4).inputs for step in range(2 * count // 37)])
    epochs = [
        Counter(row.numpy().tobytes() for row in part) for part in seen[: 2 * count].split(count)
    ]
    wanted = Counter(image.numpy().tobytes() for image in digits("train")[0].reshape(count, 64))
    assert epochs[0] == wanted
    assert not torch.equal(seen[:100], seen[count : count + 100])


def test_a_batch_larger_than_the_set_goes_round() -> None:
    made = task("digits_image", augment=False)
    count = len(digits("train")[1])
    batch = made.train_batch(1, 2 * count, 0)
    assert batch.inputs.shape == (2 * count, 1, 8, 8)
    assert batch.targets.bincount().tolist() == (2 * digits("train")[1].bincount()).tolist()


def test_sequence_and_image_are_the_same_data() -> None:
    flat, square = (
        task("digits_sequence").train_batch(5, 8, 1),
        task("digits_image").train_batch(5, 8, 1),
    )
    assert torch.equal(flat.inputs.reshape(8, 1, 8, 8), square.inputs)
    assert torch.equal(flat.targets, square.targets)


def test_shifting_moves_every_image_by_its_own_offset() -> None:
    images = torch.arange(3 * 64, dtype=torch.float32).reshape(3, 8, 8)
    moved = shifted(images, np.array([[0, 0], [1, 0], [-1, 1]]))
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, :-1], images[1, 1:]) and (moved[1, -1] == -1).all()
    assert torch.equal(moved[2, 1:, :-1], images[2, :-1, 1:]) and (moved[2, 0] == -1).all()


def test_only_training_is_augmented() -> None:
    plain, moved = task("digits_sequence", augment=False), task("digits_sequence", augment=True)
    assert not torch.equal(plain.train_batch(0, 64, 0).inputs, moved.train_batch(0, 64, 0).inputs)
    for left, right in zip(plain.evaluation("test"), moved.evaluation("test"), strict=True):
        assert torch.equal(left.inputs, right.inputs)


def test_majority_baseline_is_what_always_answering_one_digit_reaches() -> None:
    train, test = digits("train")[1].tolist(), digits("test")[1].tolist()
    common = Counter(train).most_common(1)[0][0]
    assert task("digits_image").baselines()["majority class"] == pytest.approx(
        test.count(common) / len(test)
    )
