"""Writes on from a prompt, one token at a time, with every component's state kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel


@torch.no_grad()
def generate(
    model: GraphModel,
    prompt_BL: Tensor,
    tokens: int,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return ``tokens`` more token ids for each prompt, (B, tokens).

    Args:
        model: a language model: token ids in, logits of the next token out.
        prompt_BL: token ids (B, L), L at least 1.
        tokens: how many to write.
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
        generator: where the draws come from.

    Raises:
        StepError: a component looks ahead or has no step form; the problem names the node.
    """
    return torch.stack(list(_written(model, prompt_BL, tokens, temperature, generator)), dim=1)


def _written(
    model: GraphModel,
    prompt_BL: Tensor,
    tokens: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    states = model.start(prompt_BL.shape[0])
    for token_B in prompt_BL.unbind(1):
        logits_BN, states = model.step(states, token_B)
    for place in range(tokens):
        if place:
            logits_BN, states = model.step(states, token_B)
        if temperature:
            shares_BN = (logits_BN.float() / temperature).softmax(-1)
            token_B = torch.multinomial(shares_BN, 1, generator=generator).squeeze(1)
        else:
            token_B = logits_BN.argmax(-1)
        yield token_B
