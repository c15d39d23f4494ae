"""The memory of optimisers, predicted from shapes: against the bytes that they really keep."""

from __future__ import annotations

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.training.group_spec import OPTIMISERS
from hybridlab.training.groups import GROUP, OTHERS, optimiser
from hybridlab.training.optimiser_memory import optimiser_memory
from hybridlab.training.spec import make
from tests.training.conftest import Tiny

NODES = ("use: lstm", "use: moe, experts: 2, top_k: 1")


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_keeps_what_was_predicted(
    tiny: Tiny, parity: Task, kind: str, momentum: float
) -> None:
    groups = [
        {"name": "one", "kind": "channel_mixer", "optimiser": kind, "momentum": momentum},
        {"name": "still", "use": "token_embedding", "frozen": True},
    ]
    spec = make({"task": "parity", "groups": groups})
    model = tiny(parity, *NODES)
    found = optimiser(model, spec)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    found.step()
    counted: dict[str, int] = {}
    for group in found.param_groups:
        for parameter in group["params"]:
            state = found.state[parameter]
            name = str(group[GROUP])
            tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
            counted[name] = counted.get(name, 0) + sum(tensor.nbytes for tensor in tensors)
    told = {each.name: each for each in optimiser_memory(tiny(parity, *NODES), spec)}
    assert counted == {name: told[name].state_bytes for name in ("one", OTHERS)}
    assert (counted["one"] > 0) == (kind != "sgd" or momentum > 0)
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert sum(each.gradient_bytes for each in told.values()) == gradients
    assert (told["still"].optimiser, told["still"].gradient_bytes) == ("frozen", 0)
    assert sum(each.weight_bytes for each in told.values()) == sum(
        p.nbytes for p in model.parameters()
    )


def test_shapes_alone_are_enough(parity: Task) -> None:
    spec = make({"task": "parity"})
    fitted = fit(loads("name: tiny\nwidth: 8\nnodes:\n  - {use: lstm}\n"), parity)
    (told,) = optimiser_memory(build(fitted, parity.input_type(), device="meta"), spec)
    weights = list(build(fitted, parity.input_type(), seed=0).parameters())
    assert told.state_bytes == sum(2 * weight.nbytes + 4 for weight in weights)
    assert (told.name, told.params) == (OTHERS, sum(weight.numel() for weight in weights))
