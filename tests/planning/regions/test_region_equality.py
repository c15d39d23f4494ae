"""Compiled regions of random hybrids against the same plain, and what happens to them in copies and while watched.

PyTorch takes each region apart and makes forward and backward of it as it does before it writes kernels; these are left
out, so that it takes seconds. Hypothesis draws the hybrids: 200 of them where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is
set; the suite takes a few.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.planning import turns
from hybridlab.planning.regions.apply import Compiled, made
from hybridlab.planning.regions.find import find
from hybridlab.planning.regions.record import Regions
from hybridlab.trace.step import TrainingStep
from tests.planning.test_equality import PATIENT, SOME, drawn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from random_architectures import drawn_architecture

BACKEND = "aot_eager_decomp_partition"
"""Makes forward and backward as PyTorch's own compiler does, and runs the operators one by one."""
MOST = 3
"""Regions of one hybrid that are compiled, of those that may be."""
CLOSE = turns.TOLERANCE[torch.float32]
SMALL = "name: x\nwidth: 16\nnodes: [{use: token_embedding, vocab: 32}, {id: a, use: mlp}, {id: f, use: swiglu}]"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def regions_of(step: TrainingStep, chance: random.Random | None = None) -> Compiled:
    """Return what may run compiled in a step, or a few of it by chance; what fails is raised."""
    model = step.model
    assert isinstance(model, GraphModel)
    found = [(path, one) for one in find(step)[0] for path in one.paths]
    if chance is not None:
        found = chance.sample(found, min(len(found), MOST))
    record = Regions(
        fingerprint=model.architecture.fingerprint,
        device="cpu",
        training=step.loss is not None,
        batch=len(step.inputs[0]),
        paths=tuple(path for path, _ in found),
        shapes=tuple(tuple(tuple(x.shape) for x in one.inputs) for _, one in found),
        broken=tuple(path for path, _ in found),
    )
    return made(model, record, backend=BACKEND)


def learnt(step: TrainingStep) -> list[Tensor]:
    """Return the output and the gradients of every weight of one step, and leave the model as it was."""
    model = step.model
    torch.manual_seed(5)
    with turns.kept_buffers(model):
        output = model(*step.inputs)
        loss = output.square().mean()
        if (asked := model.aux_loss()) is not None:  # type: ignore[operator]
            loss = loss + asked
        loss.backward()
    found = [output.detach()]
    found += [torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return found


def close(plain: list[Tensor], other: list[Tensor]) -> None:
    """Hold outputs and gradients against each other, each against the largest of its kind."""
    assert [one.shape for one in plain] == [one.shape for one in other]
    assert turns.gap(plain[0], other[0]) <= CLOSE
    flat = [torch.cat([one.flatten() for one in some[1:]]) for some in (plain, other)]
    assert turns.gap(*flat) <= CLOSE


def check(architecture: Architecture, chance: random.Random) -> None:
    """Hold a training step with some regions compiled against the plain one, and a pass forward too."""
    model = build(architecture, seed=0)
    x = drawn(infer(architecture))
    step = TrainingStep(model.train(), (x,))
    plain = learnt(step)
    compiled = regions_of(step, chance)
    compiled.on()
    close(plain, learnt(step))
    close(plain, learnt(step))  # the first one was the first call of all
    assert all(one.ready for one in compiled.regions.values())
    compiled.off()
    assert all(map(torch.equal, plain, learnt(step)))
    forward = TrainingStep(model.eval(), (x,), loss=None)
    assert turns.difference(forward, regions_of(forward, chance)) <= CLOSE


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_random_hybrids_give_the_same_compiled(chance: random.Random) -> None:
    architecture = drawn_architecture(chance)
    note(dump(architecture))
    torch._dynamo.reset()
    check(architecture, chance)


def step_of() -> TrainingStep:
    model = build(loads(SMALL), seed=0).train()
    return TrainingStep(model, (torch.arange(24).view(2, 12),))


def test_a_copy_learns_with_its_own_weights() -> None:
    """What is compiled holds the weights that it was compiled for."""
    step = step_of()
    compiled = regions_of(step)
    compiled.on()
    learnt(step)
    twin = copy.deepcopy(step.model)
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.mul_(1.5)
    found = learnt(TrainingStep(twin, step.inputs))
    close(learnt(step_of()), found)
    assert all(p.grad is None for p in step.model.parameters())
    close([1.0 * one for one in learnt(step)], learnt(step))
    assert all(one.ready for one in compiled.regions.values())


class Watching(TorchFunctionMode):
    """Sees every function that runs, as the look at activations does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def test_what_is_watched_by_functions_runs_plain_and_is_not_compiled_anew() -> None:
    step = step_of()
    compiled = regions_of(step)
    with Watching() as before:
        learnt(step)
    compiled.on()
    learnt(step)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with Watching() as watching:
        learnt(step)
    assert watching.seen == before.seen and "silu" in watching.seen
    learnt(step)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0
    with torch.device("cpu"):  # which is no watching
        region = next(iter(compiled.regions.values()))
        assert region._runs_compiled()
