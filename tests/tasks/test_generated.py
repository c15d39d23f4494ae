"""The generated tasks: what a batch holds, that it is a pure function of (seed, step), and that it never changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from hybridlab.errors import TaskError
from hybridlab.tasks.base import IGNORED, Batch, stream
from hybridlab.tasks.registry import task
from tests.tasks.conftest import AVAILABLE

GENERATED = (
    "mqar",
    "parity",
    "selective_copying",
    "mad_in_context_recall",
    "mad_selective_copying",
)
GOLDEN = {
    "mqar": "335b950abc0fe765",
    "parity": "a4dce368c515ba29",
    "selective_copying": "cc9e1ba65393f2b0",
    "digits_sequence": "9e972b8d855bc462",
    "listops": "e06cd24665ae31dc",
    "mad_compression": "2a871f6f6d7010cb",
    "mad_fuzzy_in_context_recall": "d9191bd9e892d335",
    "mad_in_context_recall": "0d31b4d00bd24084",
    "mad_memorization": "eaf1b7f680c4089e",
    "mad_noisy_in_context_recall": "02f09b6bf27cbbe1",
    "mad_selective_copying": "119536f2de428e9f",
}


def _digest(*batches: Batch) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.inputs.contiguous().numpy().tobytes())
        digest.update(batch.targets.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_batches_are_those_of_the_first_release(name: str) -> None:
    made = task(name)
    given = made.train_batch(3, 5, 7), made.train_batch(0, 2, 0), next(made.evaluation("val"))
    assert _digest(*given) == GOLDEN[name], "old runs could not be resumed or compared any more"


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_batch_depends_on_seed_and_step_alone(name: str) -> None:
    first, second = task(name), task(name)
    wanted = [_digest(first.train_batch(step, 4, 11)) for step in range(4)]
    torch.manual_seed(5)
    backwards = [_digest(second.train_batch(step, 4, 11)) for step in (3, 2, 1, 0)]
    assert wanted == backwards[::-1]
    assert len(set(wanted)) == 4, "steps share a batch"
    assert _digest(first.train_batch(0, 4, 12)) != wanted[0], "the seed does nothing"


@pytest.mark.parametrize("name", AVAILABLE)
def test_making_batches_leaves_the_global_random_state_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made = task(name)
    made.train_batch(0, 4, 0)
    next(made.evaluation("test"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", AVAILABLE)
def test_shapes_are_those_that_the_task_declares(name: str) -> None:
    made = task(name)
    batch = made.train_batch(0, 3, 0)
    declared = made.input_type().shape
    assert batch.inputs.shape[0] == len(batch.targets) == 3
    for size, wanted in zip(batch.inputs.shape[1:], declared[1:], strict=True):
        assert size == (made.length if wanted == "L" else wanted)
    assert str(batch.inputs.dtype) == f"torch.{made.input_type().dtype}"
    classes = made.output_type().shape[-1]
    scored = batch.targets[batch.mask]
    assert scored.numel()
    if made.measure == "mean_abs_error":
        assert classes == 1 and scored.isfinite().all(), "a number"
    else:
        assert scored.min() >= 0 and scored.max() < classes


@pytest.mark.parametrize("name", AVAILABLE)
def test_evaluation_is_the_same_every_time_and_differs_between_splits(name: str) -> None:
    made = task(name)
    first, again = (_digest(*made.evaluation("val")) for _ in range(2))
    assert first == again
    assert first != _digest(*made.evaluation("test"))


@pytest.mark.parametrize("length", [1, 2, 32, 96])
def test_parity_counts_the_ones_so_far(length: int) -> None:
    batch = task("parity", length=length).train_batch(0, 16, 0)
    for bits, answers in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert answers == [sum(bits[: t + 1]) % 2 for t in range(length)]


def test_parity_is_tested_longer_than_trained() -> None:
    made = task("parity", length=8, longer=24)
    assert made.test_splits == ("test", "test_24")
    assert [made.metric_name(split) for split in made.test_splits] == [
        "test_accuracy",
        "test_accuracy_24",
    ]
    assert next(made.evaluation("test")).inputs.shape[1] == 8
    assert next(made.evaluation("test_24")).inputs.shape[1] == 24


@pytest.mark.parametrize(
    ("pairs", "length", "asks"), [(8, 64, 6), (8, 64, 1), (1, 3, 1), (4, 20, 2)]
)
def test_mqar_asks_for_values_that_were_shown(pairs: int, length: int, asks: int) -> None:
    made = task("mqar", pairs=pairs, length=length, asks=asks)
    batch = made.train_batch(0, 32, 0)
    for tokens, answers in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        shown = dict(zip(tokens[0 : 2 * pairs : 2], tokens[1 : 2 * pairs : 2], strict=True))
        assert len(shown) == pairs and len(set(shown.values())) == pairs
        asked = [
            (key, answer) for key, answer in zip(tokens, answers, strict=True) if answer != IGNORED
        ]
        assert len(asked) == pairs * asks
        assert all(shown[key] == answer for key, answer in asked)
        assert not set(shown) & set(shown.values()) and 0 not in shown


def test_mqar_asks_as_often_as_there_is_room() -> None:
    assert [task("mqar", pairs=pairs).asks for pairs in (4, 8, 16, 21)] == [8, 6, 2, 1]  # type: ignore[attr-defined]


def test_mqar_default_asks_for_every_key_alike() -> None:
    batch = task("mqar").train_batch(1, 8, 3)
    for tokens, answers in zip(batch.inputs.numpy(), batch.targets.numpy(), strict=True):
        counts = np.unique(tokens[answers != IGNORED], return_counts=True)[1]
        assert set(counts.tolist()) == {6}


def test_selective_copying_asks_for_the_symbols_in_order() -> None:
    made = task("selective_copying", symbols=5, vocab=9, length=24)
    batch = made.train_batch(0, 32, 0)
    for tokens, answers in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        symbols = [token for token in tokens[:-5] if token != 0]
        assert tokens[-5:] == [1] * 5 and len(symbols) == 5
        assert answers[-5:] == symbols and set(answers[:-5]) == {IGNORED}
        assert all(2 <= symbol < 9 for symbol in symbols)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("mqar", {"pairs": 8, "length": 20}, "need a length of 24, not 20"),
        ("mqar", {"pairs": 20, "vocab": 20, "length": 64}, "vocab of at least 41"),
        ("selective_copying", {"symbols": 9, "length": 17}, "need a length of 18"),
        ("parity", {"length": 0}, "at least 1"),
        ("parity", {"lenght": 8}, "did you mean 'length'"),
        ("parity", {"length": 3.5}, "task_params.length"),
    ],
)
def test_parameters_that_cannot_be_are_refused_in_a_sentence(
    name: str, params: dict[str, object], words: str
) -> None:
    with pytest.raises(TaskError, match="task_params") as caught:
        task(name, **params)
    assert words in str(caught.value)


def test_streams_of_names_splits_seeds_and_steps_are_apart() -> None:
    keys = [
        ("a", "train", 0, 0),
        ("a", "val", 0, 0),
        ("b", "train", 0, 0),
        ("a", "train", 1, 0),
        ("a", "train", 0, 1),
    ]
    drawn = {tuple(stream(*key).random(4)) for key in keys}
    assert len(drawn) == len(keys)


@pytest.mark.parametrize("name", GENERATED)
def test_chance_is_the_stated_baseline(name: str) -> None:
    made = task(name)
    answers = torch.cat([batch.targets[batch.mask] for batch in made.evaluation("test")])
    share = answers.bincount()[answers.min() :].float() / len(answers)
    assert share.max().item() == pytest.approx(made.baselines()["chance"], rel=0.15)
