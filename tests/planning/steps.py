"""Training steps on small architectures, with a plan and without it."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import program
from hybridlab.planning.recompute import Recomputing, Span
from hybridlab.trace.step import casting

NODES = {
    "chain": "{repeat: 2, nodes: [{use: attention, heads: 4}, {use: swiglu}]}",
    "fork": "{id: a, use: mlp}, {id: b, use: short_conv, inputs: [a]}, {id: s, use: sum, inputs: [a, b]}",
    "shared": "{id: g, repeat: 2, tie: true, residual: pre, nodes: [{use: swiglu}]}",
    "post": "{id: g, repeat: 2, residual: post, nodes: [{use: mlp}, {use: gated_linear_attention}]}",
    "skips": "{id: a, use: mlp}, {id: b, use: swiglu}, {id: c, use: mlp},"
    " {id: d, use: concat, inputs: [a, c]}, {id: e, use: gated_sum, inputs: [b, d]}",
    "experts": "{use: moe, experts: 4, top_k: 2}, {use: mlp}, {use: moe, experts: 4, routing: sigmoid}",
    "exit": "{use: mlp}, {use: early_exit, outputs: 5}, {use: attention, heads: 4}",
    "recurrent": "{use: lstm}, {use: mamba2, state: 16}",
}


def text(nodes: str) -> str:
    """Return an architecture of some nodes as YAML."""
    return f"name: x\nwidth: 32\nnodes: [{nodes}]"


def with_spans(model: GraphModel, spans: tuple[Span, ...]) -> GraphModel:
    """Let a model compute spans again."""
    model.running = Recomputing(program(model), spans)
    return model


def steps(
    model: GraphModel, x: Tensor, count: int = 2, cast: torch.dtype | None = None
) -> list[Tensor]:
    """Return losses, gradients and buffers of some updates from one random state, with autocast to a type or none."""
    model.train()
    torch.manual_seed(5)
    found: list[Tensor] = []
    for _ in range(count):
        with casting(cast):
            output = model(x)
        loss = output.float().square().mean()
        if (asked := model.aux_loss()) is not None:
            loss = loss + asked
        for _, exit in model.exits():
            loss = loss + exit.logits.float().square().mean()
        loss.backward()
        found += [
            loss.detach(),
            *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        ]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        model.after_update()
        model.zero_grad(set_to_none=True)
        found += [buffer.clone() for buffer in model.buffers()]
    return [*found, torch.rand(3)]  # and what is drawn next


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Say whether two lists of tensors are the same, bit for bit."""
    return len(one) == len(other) and all(map(torch.equal, one, other))
