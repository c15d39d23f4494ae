"""Writes on from a prompt, one token at a time, with every component's state kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import State

Read = Callable[[Tensor], tuple[Tensor, list[State]]]
"""Reads prompts (B, L); returns the logits (B, N) at their last position and the states after it."""


@torch.no_grad()
def generate(
    model: GraphModel,
    prompt_BL: Tensor,
    tokens: int,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    read: Read | None = None,
) -> Tensor:
    """Return ``tokens`` more token ids for each prompt, (B, tokens).

    Args:
        model: a language model: token ids in, logits of the next token out.
        prompt_BL: token ids (B, L), L at least 1.
        tokens: how many to write.
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
        generator: where the draws come from.
        read: what reads the prompts, such as a cache of states over requests; None reads every position.

    Raises:
        StepError: a component looks ahead or has no step form; the problem names the node.
    """
    logits_BN, states = read_prompt(model, prompt_BL) if read is None else read(prompt_BL)
    written = _written(model, logits_BN, states, tokens, temperature, generator)
    return torch.stack(list(written), dim=1)


def read_prompt(model: GraphModel, prompt_BL: Tensor) -> tuple[Tensor, list[State]]:
    """Read prompts (B, L), L at least 1, position by position; return the last logits (B, N) and the states.

    Raises:
        StepError: a component looks ahead or has no step form; the problem names the node.
    """
    states = model.start(prompt_BL.shape[0])
    with torch.no_grad():
        for token_B in prompt_BL.unbind(1):
            logits_BN, states = model.step(states, token_B)
    return logits_BN, states


def _written(
    model: GraphModel,
    logits_BN: Tensor,
    states: list[State],
    tokens: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    for place in range(tokens):
        if temperature:
            shares_BN = (logits_BN.float() / temperature).softmax(-1)
            token_B = torch.multinomial(shares_BN, 1, generator=generator).squeeze(1)
        else:
            token_B = logits_BN.argmax(-1)
        yield token_B
        if place < tokens - 1:
            logits_BN, states = model.step(states, token_B)
