"""A model read one position at a time: forks, repeats, tied groups and residuals included."""

from __future__ import annotations

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.generate import generate
from hybridlab.architecture.model import build
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import StepError

HYBRID = """
name: stepped
width: 16
nodes:
  - {use: token_embedding, vocab: 20, positions: true}
  - id: stage
    repeat: 2
    residual: pre
    nodes:
      - {use: mamba2, heads: 2}
      - {use: attention, heads: 2, window: 4}
  - id: shared
    repeat: 3
    tie: true
    nodes:
      - {use: gru}
      - {use: moe, residual: post}
  - {id: left, use: short_conv}
  - {id: right, use: attention, heads: 2, inputs: [shared]}
  - {use: gated_sum, inputs: [left, right]}
  - {use: lm_head, vocab: 20}
"""
TOKENS = TensorType(TensorKind.TOKENS, ("B", "L"), "int64")


@torch.no_grad()
def test_a_model_steps_as_it_runs() -> None:
    model = build(loads(HYBRID), TOKENS, seed=0).eval()
    tokens = torch.randint(20, (3, 13), generator=torch.Generator().manual_seed(1))
    states, rows = model.start(3), []
    for token in tokens.unbind(1):
        row, states = model.step(states, token)
        rows.append(row)
    torch.testing.assert_close(torch.stack(rows, 1), model(tokens), rtol=2e-4, atol=2e-5)


@torch.no_grad()
def test_the_likeliest_tokens_are_those_of_the_whole_model() -> None:
    model = build(loads(HYBRID), TOKENS, seed=0).eval()
    prompt = torch.randint(20, (2, 5), generator=torch.Generator().manual_seed(1))
    written = generate(model, prompt, 8)
    text = prompt
    for place in range(8):
        text = torch.cat((text, model(text)[:, -1:].argmax(-1)), 1)
        assert torch.equal(text[:, 5:], written[:, : place + 1])


def test_drawn_tokens_repeat_with_the_seed() -> None:
    model = build(loads(HYBRID), TOKENS, seed=0).eval()
    prompt = torch.zeros(2, 3, dtype=torch.int64)
    drawn = [
        generate(model, prompt, 6, temperature=5.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_what_looks_ahead_names_itself() -> None:
    text = HYBRID.replace(
        "{id: right, use: attention,", "{id: right, use: attention, causal: false,"
    )
    model = build(loads(text), TOKENS, seed=0)
    with pytest.raises(StepError, match="right: attention that looks ahead"):
        generate(model, torch.zeros(1, 3, dtype=torch.int64), 2)
