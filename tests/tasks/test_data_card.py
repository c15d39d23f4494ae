"""Data cards: every task has one, and what it shows is what a model reads."""

from __future__ import annotations

import json
import re

import pytest
import torch

from hybridlab.tasks.base import Batch
from hybridlab.tasks.data_card import _image, _series, data_card
from hybridlab.tasks.listops import evaluate
from hybridlab.tasks.registry import task
from tests.tasks.conftest import AVAILABLE


@pytest.mark.parametrize("name", AVAILABLE)
def test_every_task_has_a_card(name: str) -> None:
    made = task(name)
    card = data_card(made, examples=2)
    assert json.loads(json.dumps(card.as_dict(), allow_nan=False))["name"] == name
    assert card.tests.endswith(".") and card.source and card.baselines == made.baselines()
    assert len(card.examples) == 2 and card.examples[0] != card.examples[1]
    for example in card.examples:
        assert example.inputs.strip() and example.answer.strip()
        assert max(map(len, example.inputs.split("\n"))) < 1_500
    answers = sum(int(b.mask.sum()) for b in made.evaluation(made.test_splits[0]))
    assert card.evaluated[made.test_splits[0]] == answers > 0
    if card.train_samples is not None:
        seen: set[bytes] = set()
        steps = -(-card.train_samples // 512) if card.train_samples < 5_000 else 0
        for step in range(steps):
            seen |= {row.numpy().tobytes() for row in made.train_batch(step, 512, 0).inputs}
        assert not steps or len(seen) <= card.train_samples < 1.05 * len(seen)


def test_tokens_are_shown_as_they_are_written() -> None:
    card = data_card(task("listops"))
    batch = task("listops").train_batch(0, 3, 0)
    for example, row in zip(card.examples, batch.inputs.tolist(), strict=True):
        assert re.fullmatch(r"\[[A-Z]+ .*\]", example.inputs)
        assert example.answer == str(evaluate([token for token in row if token]))


def test_text_is_shown_as_text() -> None:
    card = data_card(task("python_bytes"))
    text = card.examples[0].inputs
    assert len(text.split()) > 3 and re.search(r"[a-z]{3}", text)
    assert text[1:40] in card.examples[0].answer or "\\x" in text[:40]


def test_what_is_not_asked_is_a_low_line() -> None:
    card = data_card(task("mad_memorization"))
    assert re.fullmatch(r"(_ \d+ ?)+", card.examples[0].answer)
    assert card.examples[0].inputs.split()[1] == "?"


def test_series_and_images_are_drawn() -> None:
    ramp = torch.arange(8.0)[:, None]
    assert _series(ramp) == "▁▂▃▄▅▆▇█"
    assert _series(torch.ones(3, 1)) == "▁▁▁"
    lines = _series(torch.randn(1460, 5)).split("\n")
    assert [len(line) for line in lines[:3]] == [80] * 3 and lines[3] == "and 2 more channels"
    picture = _image(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    assert picture == "  @@\n@@"
    assert max(map(len, _image(torch.randn(3, 300, 100)).split("\n"))) <= 80


def test_a_card_takes_what_the_task_is_set_to() -> None:
    card = data_card(task("mad_in_context_recall", train_examples=7, length=8), examples=1)
    assert card.train_samples == 7 and len(card.examples[0].inputs.split()) == 7
    assert isinstance(task("parity").train_batch(0, 1, 0), Batch)
    assert data_card(task("parity")).train_samples is None
