"""The tasks of Mechanistic Architecture Design: every sample is judged by the paper's words, token by token."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.errors import TaskError
from hybridlab.tasks.base import IGNORED, Batch
from hybridlab.tasks.registry import fit, task, tasks

MAD = sorted(name for name in tasks() if name.startswith("mad_"))
DEFAULTS: dict[str, dict[str, Any]] = {
    "mad_in_context_recall": {"vocab": 16, "length": 128, "train_examples": 12_800},
    "mad_noisy_in_context_recall": {
        "vocab": 32,
        "length": 128,
        "train_examples": 12_800,
        "noise_vocab": 16,
        "noise": 0.2,
    },
    "mad_fuzzy_in_context_recall": {
        "vocab": 16,
        "length": 128,
        "train_examples": 12_800,
        "key_tokens": 3,
        "value_tokens": 3,
    },
    "mad_selective_copying": {"vocab": 16, "length": 256, "train_examples": 12_800, "tokens": 16},
    "mad_compression": {"vocab": 16, "length": 32, "train_examples": 12_800},
    "mad_memorization": {"vocab": 256, "length": 32, "train_examples": 256},
}


RECALL = [name for name in MAD if name.endswith("recall")]


def rows(batch: Batch) -> list[tuple[list[int], list[int]]]:
    return list(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True))


def test_the_six_are_there_with_the_papers_defaults() -> None:
    assert sorted(DEFAULTS) == MAD
    for name, wanted in DEFAULTS.items():
        assert task(name).params.model_dump() == wanted
        assert task(name).title.startswith("MAD: ")


@pytest.mark.parametrize("name", MAD)
def test_the_test_split_has_the_papers_size(name: str) -> None:
    assert sum(len(batch.inputs) for batch in task(name).evaluation("test")) == 1_280


@pytest.mark.parametrize("name", MAD)
def test_the_training_set_has_so_many_samples_and_each_comes_once_an_epoch(name: str) -> None:
    made = task(name, train_examples=24)
    seen = [made.train_batch(step, 8, 5).inputs for step in range(6)]
    epochs = [Counter(map(tuple, torch.cat(part).tolist())) for part in (seen[:3], seen[3:])]
    assert epochs[0] == epochs[1] and len(epochs[0]) == 24
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:])), "both epochs in one order"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mad_in_context_recall", {}),
        ("mad_in_context_recall", {"vocab": 7, "length": 4}),
        ("mad_in_context_recall", {"vocab": 128, "length": 512}),
        ("mad_noisy_in_context_recall", {}),
        ("mad_noisy_in_context_recall", {"noise": 0.8, "noise_vocab": 3, "vocab": 11}),
        ("mad_noisy_in_context_recall", {"noise": 0.0}),
    ],
)
def test_recall_asks_for_each_key_that_came_before(name: str, params: dict[str, Any]) -> None:
    made = task(name, **params)
    noise = made.params.noise_vocab if "noisy" in name else 0
    keys = range((made.params.vocab - noise) // 2)
    values = range(keys.stop, made.params.vocab - noise)
    for tokens, answers in rows(next(made.evaluation("val"))):
        assert len(tokens) == made.params.length - 1
        value_of: dict[int, int] = {}
        for place in range(0, len(tokens), 2):
            key, answer = tokens[place], answers[place]
            value = tokens[place + 1] if place + 1 < len(tokens) else answer
            if key not in keys:
                assert noise and key >= values.stop and value >= values.stop and answer == IGNORED
                continue
            assert value in values
            assert answer == value_of.get(key, IGNORED)
            assert value_of.setdefault(key, value) == value
        assert answers[-1] != IGNORED, "the last pair is always asked for"
        assert set(answers[1::2]) <= {IGNORED}


@pytest.mark.parametrize("name", RECALL)
def test_recall_trains_on_every_next_token(name: str) -> None:
    batch = task(name).train_batch(0, 16, 3)
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert (batch.targets >= 0).all()


def test_keys_values_and_noise_are_drawn_evenly() -> None:
    made = task("mad_noisy_in_context_recall")
    batch = made.train_batch(0, 512, 0)
    first, second = batch.inputs[:, :-1:2].flatten(), batch.inputs[:, 1::2].flatten()
    noise = first >= 16
    assert noise.float().mean() == pytest.approx(0.2 * 62 / 63, abs=0.01)
    for part, low in ((first[~noise], 0), (second[~noise], 8), (first[noise], 16)):
        counts = part.bincount()[low:]
        share = counts / counts.sum()
        assert share.max() < 1.25 * share.min(), share


def test_last_value_shown_is_what_a_loop_finds() -> None:
    made = task("mad_noisy_in_context_recall", noise=0.5)
    right = asked = 0
    for batch in made.evaluation("test"):
        for tokens, answers in rows(batch):
            last = -1
            for token, answer in zip(tokens, answers, strict=True):
                last = token if 8 <= token < 16 else last
                right, asked = right + (answer == last), asked + (answer != IGNORED)
    found = made.baselines()
    assert found["the last value shown"] == (pytest.approx(right / asked))
    assert found["chance"] == 1 / 8


def _parsed(tokens: list[int], keys: int, values: int) -> list[tuple[tuple[int, ...], ...]]:
    """Cut tokens into pairs of a key's tokens and a value's: keys are below ``keys``, values below ``values``."""
    start = next(i for i, token in enumerate(tokens) if token < values)
    assert all(token < values for token in tokens[start:])
    ends = [
        i + 1
        for i, (left, right) in enumerate(pairwise(tokens))
        if i >= start and left >= keys > right
    ]
    cuts = [start, *ends, len(tokens)]
    pairs = []
    for first, end in pairwise(cuts):
        part = tokens[first:end]
        key = tuple(token for token in part if token < keys)
        assert tuple(part[: len(key)]) == key, "a key comes before its value"
        pairs.append((key, tuple(part[len(key) :])))
    return pairs


@pytest.mark.parametrize(
    "params", [{}, {"vocab": 32, "length": 64}, {"key_tokens": 1, "value_tokens": 2, "length": 20}]
)
def test_fuzzy_recall_asks_for_whole_values_of_keys_that_came_before(
    params: dict[str, Any],
) -> None:
    made = task("mad_fuzzy_in_context_recall", **params)
    keys, values, asked_values = (made.params.vocab - 1) // 2, made.params.vocab - 1, 0
    for tokens, answers in rows(next(made.evaluation("val"))):
        whole, asked = [*tokens, answers[-1]], [IGNORED, *answers]
        value_of: dict[tuple[int, ...], tuple[int, ...]] = {}
        place = len(whole)
        pairs = _parsed(whole, keys, values)
        place -= sum(len(key) + len(value) for key, value in pairs)
        assert set(asked[:place]) <= {IGNORED}
        for key, value in pairs:
            assert len(key) == made.params.key_tokens == len(set(key))
            assert 1 <= len(value) <= made.params.value_tokens and len(set(value)) == len(value)
            told = asked[place : place + len(key) + len(value)]
            known = key in value_of
            assert told == [IGNORED] * len(key) + (list(value) if known else [IGNORED] * len(value))
            assert value_of.setdefault(key, value) == value
            place += len(key) + len(value)
            asked_values += known
        assert answers[-1] != IGNORED and len(tokens) == made.params.length
    assert asked_values >= 128


def test_fuzzy_training_has_keys_of_all_lengths_as_often() -> None:
    made = task("mad_fuzzy_in_context_recall")
    batch = made.train_batch(0, 256, 1)
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    sizes = Counter(
        (len(key), len(value))
        for tokens in batch.inputs.tolist()
        for key, value in _parsed(tokens, 7, 15)[2:-2]
    )
    for place in (0, 1):
        one = Counter[int]()
        for size, count in sizes.items():
            one[size[place]] += count
        assert set(one) == {1, 2, 3}
        # Keys of one token come again more often than their values are drawn anew, so values are even only nearly.
        assert max(one.values()) < 1.3 * min(one.values()), one


@pytest.mark.parametrize("params", [{}, {"tokens": 1, "length": 4}, {"tokens": 40, "vocab": 64}])
def test_copying_asks_for_the_tokens_in_order(params: dict[str, Any]) -> None:
    made = task("mad_selective_copying", **params)
    count, blank, ask = made.params.tokens, made.params.vocab - 2, made.params.vocab - 1
    for tokens, answers in rows(next(made.evaluation("val"))):
        assert len(tokens) == made.params.length
        shown = [token for token in tokens[: -count - 1] if token != blank]
        assert len(shown) == count and max(shown) < blank and tokens[-count - 2] != blank
        assert tokens[-count - 1 :] == [ask] + [blank] * count
        assert answers == [IGNORED] * (len(tokens) - count) + shown


def test_blanks_go_before_each_token_alike() -> None:
    inputs = task("mad_selective_copying").train_batch(0, 400, 0).inputs.numpy()
    before = [np.diff(np.flatnonzero(row[:239] < 14), prepend=-1) - 1 for row in inputs]
    mean = np.mean([b for b in before if len(b) == 16], axis=0)
    assert mean == pytest.approx(np.full(16, 223 / 16), rel=0.1)


def test_compression_asks_for_what_stands_there() -> None:
    made = task("mad_compression", vocab=9, length=12)
    batch = next(made.evaluation("val"))
    assert torch.equal(batch.inputs, batch.targets)
    assert (batch.inputs[:, -1] == 8).all() and set(batch.inputs[:, :-1].flatten().tolist()) == set(
        range(8)
    )
    assert made.baselines()["chance"] == pytest.approx((11 / 8 + 1) / 12)


def test_only_the_decoder_may_answer_compression() -> None:
    made = task("mad_compression")
    fitted = fit(loads("name: x\nwidth: 8\nnodes:\n  - {use: lstm}\n"), made)
    assert fitted.nodes[-1].use == "sequence_decoder"
    with pytest.raises(TaskError, match="own head") as caught:
        fit(loads("name: x\nwidth: 8\nnodes: [{use: lstm}, {use: lm_head, vocab: 16}]\n"), made)
    assert "sequence_decoder, vocab: 16" in str(caught.value)


@pytest.mark.parametrize("vocab", [256, 7])
def test_memorisation_is_one_map_for_all_seeds_and_splits(vocab: int) -> None:
    made = task("mad_memorization", vocab=vocab)
    value_of: dict[int, int] = {}
    batches = (made.train_batch(0, 64, 0), made.train_batch(1, 64, 9), *made.evaluation("test"))
    for batch in batches:
        for tokens, answers in rows(batch):
            assert tokens[1::2] == [vocab - 1] * 16 and set(answers[0::2]) == {IGNORED}
            for key, value in zip(tokens[0::2], answers[1::2], strict=True):
                assert value_of.setdefault(key, value) == value
    keys = (vocab - 1) // 2
    assert sorted(value_of) == list(range(keys)) and len(set(value_of.values())) == keys
    assert all(keys <= value < vocab - 1 for value in value_of.values())


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("mad_in_context_recall", {"length": 7}, "even, not 7"),
        ("mad_noisy_in_context_recall", {"vocab": 18}, "vocab of at least 20"),
        ("mad_noisy_in_context_recall", {"noise": 1.0}, "less than 1"),
        ("mad_fuzzy_in_context_recall", {"length": 17}, "length of at least 18"),
        ("mad_fuzzy_in_context_recall", {"vocab": 6}, "vocab of at least 7"),
        ("mad_selective_copying", {"length": 33}, "length of at least 34"),
        ("mad_memorization", {"length": 5}, "even, not 5"),
    ],
)
def test_what_cannot_be_is_a_sentence(name: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError) as caught:
        task(name, **params)
    assert words in str(caught.value)


def test_the_shortest_fuzzy_sequences_are_whole() -> None:
    made = task("mad_fuzzy_in_context_recall", length=18)
    for step in range(20):
        assert made.train_batch(step, 32, 0).inputs.shape == (32, 18)
    assert all(batch.inputs.shape == (128, 18) for batch in made.evaluation("test"))
