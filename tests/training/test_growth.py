"""Repeats that are added leave outputs as they are, and what an optimiser remembers of old weights goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import Entry, presets
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import HybridLabError, SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training.groups import optimiser
from hybridlab.training.grown import grown, grown_text, trained_text
from hybridlab.training.growth import grow, growth_problems
from hybridlab.training.spec import TrainSpec
from hybridlab.training.stage_checks import check_stages
from hybridlab.training.stage_spec import StageSpec
from hybridlab.training.survival import survive
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]


def _stage(**changes: object) -> StageSpec:
    return StageSpec.model_validate({"name": "more", **changes})


def _unsettled(model: nn.Module) -> None:
    """Move every weight, norms and zeros too, as training does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def _answers(model: nn.Module, what: Task) -> torch.Tensor:
    with torch.no_grad():
        answers: torch.Tensor = model.eval()(what.train_batch(3, 4, 0).inputs)
    return answers


GROWING = {
    "mixers": "{id: stage, repeat: 2, nodes: [{use: attention, heads: 2}, {use: swiglu}]}",
    "once": "{id: stage, nodes: [{use: mamba2, heads: 2, state: 4}, {use: mlp}]}",
    "nested": "{id: stage, repeat: 2, nodes: [{id: inner, repeat: 2, nodes: [{use: lru}]}]}",
    "hymba": (
        "{id: stage, repeat: 2, nodes: [{id: heads, residual: pre, nodes: [{id: a, use: attention, heads: 2, "
        "residual: none}, {id: s, use: mamba2, heads: 2, state: 4, inputs: [input], residual: none}, "
        "{use: gated_sum, inputs: [a, s]}]}, {use: swiglu}]}"
    ),
    "summed": (
        "{id: stage, repeat: 2, nodes: [{id: a, use: attention, heads: 2, residual: none}, "
        "{id: m, use: mlp, inputs: [input], residual: none}, {use: sum, inputs: [input, a, m]}]}"
    ),
    "experts": "{id: stage, repeat: 2, nodes: [{use: lru}, {use: moe, experts: 3, top_k: 1}]}",
    "around": "{id: stage, repeat: 2, residual: post, nodes: [{use: attention, heads: 2}]}",
}


def _parity_model(node: str) -> tuple[GraphModel, Task]:
    what = task("parity", length=8, longer=12)
    text = f"name: x\nwidth: 8\nnodes:\n  - {node}\n  - {{use: lstm}}\n"
    return build(fit(loads(text), what), what.input_type(), seed=0), what


@pytest.mark.parametrize("new", ["copied", "drawn"])
@pytest.mark.parametrize("design", sorted(GROWING))
def test_outputs_stay_and_all_that_is_new_can_learn(design: str, new: str) -> None:
    model, what = _parity_model(GROWING[design])
    _unsettled(model)
    before, old = _answers(model, what), {id(p) for p in model.parameters()}
    stage = _stage(grow={"stage": 2}, new_repeats=new)
    assert not list(growth_problems(model, 1, stage))
    fresh = grow(model, stage, seed=0)
    after = _answers(model, what)
    assert (after - before).abs().max() <= 1e-6 * max(1.0, float(before.abs().max()))
    assert fresh and not old & {id(p) for p in fresh}
    assert old < {id(p) for p in model.parameters()}, "old weights are the same objects"
    judge = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(
        2
    ):  # the zeros get a gradient at once, what stands before them after an update
        batch = what.train_batch(step, 8, 0)
        model.train()
        judge.zero_grad()
        what.loss(model(batch.inputs), batch).backward()
        judge.step()
    if design != "experts":  # of which some may have got nothing yet
        still = [p for p in fresh if p.grad is None or not p.grad.abs().sum() > 0]
        assert not [p for p in still if p.ndim > 1], "some new maps never learn"


@pytest.mark.parametrize("design", sorted(GROWING))
def test_a_grown_model_is_the_larger_architectures(design: str) -> None:
    model, what = _parity_model(GROWING[design])
    stage = _stage(grow={"stage": 1})
    grow(model, stage, seed=0)
    larger = build(model.architecture, what.input_type(), seed=1)
    assert list(model.state_dict()) == list(larger.state_dict()), "the same names in the same order"
    assert [path for path, _ in model.slots()] == [path for path, _ in larger.slots()]
    assert [s.path for s in model.root.in_running_order()] == [
        s.path for s in larger.root.in_running_order()
    ]
    larger.load_state_dict(model.state_dict())
    _unsettled(model)
    larger.load_state_dict(model.state_dict())
    assert torch.equal(_answers(model, what), _answers(larger, what))


REFUSED = {
    "tied": ("{id: stage, repeat: 2, tie: true, nodes: [{use: gru}]}", "share their weights"),
    "post": ("{id: stage, repeat: 2, nodes: [{use: gru, residual: post}]}", "behind the residual"),
    "bare": ("{id: stage, repeat: 2, nodes: [{use: gru, residual: none}]}", "no residual around"),
    "s4d": ("{id: stage, repeat: 2, nodes: [{use: s4d}]}", "no last map"),
    "fork": (
        "{id: stage, repeat: 2, nodes: [{id: a, use: gru}, {id: b, use: lstm, inputs: [input]}, "
        "{use: gated_sum, inputs: [a, b]}]}",
        "no residual around",
    ),
}


@pytest.mark.parametrize("design", sorted(REFUSED))
def test_what_cannot_begin_as_nothing_is_refused(design: str) -> None:
    node, reason = REFUSED[design]
    model, _ = _parity_model(node)
    (problem,) = growth_problems(model, 1, _stage(grow={"stage": 1}))
    assert reason in problem.sentence() and problem.path.startswith("stages[1].grow")


def test_an_unknown_group_is_told(tiny: Tiny, parity: Task) -> None:
    (problem,) = growth_problems(tiny(parity), 1, _stage(grow={"stage": 1}))
    assert "fits no group" in problem.message


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
def test_every_preset_grows_or_says_why_not(entry: Entry) -> None:
    what = task("mqar", pairs=2, length=16, vocab=16)
    try:
        fitted = fit(loads(entry.text()), what)
    except HybridLabError:
        pytest.skip("reads pictures")
    stage = _stage(grow={"*": 1})
    model = build(fitted, what.input_type(), seed=0)
    problems = list(growth_problems(model, 1, stage))
    if problems:
        assert all(problem.fix or "fits no group" in problem.message for problem in problems)
        return
    _unsettled(model)
    before = _answers(model, what)
    grow(model, stage, seed=0)
    moved = (_answers(model, what) - before).abs().max()
    assert moved <= 1e-6 * max(1.0, float(before.abs().max()))


def test_text_and_architecture_grow_alike() -> None:
    text = (
        "name: x   # mine\nwidth: 8\nnodes:\n  - id: stage\n    repeat: 2   # two at first\n"
        "    nodes:\n      - {use: gru}\n      - {id: inner, nodes: [{use: lstm}]}\n"
    )
    stages = [_stage(), _stage(grow={"stage": 2}), _stage(grow={"stage.inner": 1, "stage": 1})]
    after = grown_text(text, stages)
    assert "# mine" in after and "# two at first" in after
    assert loads(after) == grown(loads(text), stages)
    assert loads(after).nodes[0].repeat == 5 and loads(after).nodes[0].nodes[1].repeat == 2
    record = {"architecture": text, "training": {"stages": [s.model_dump() for s in stages]}}
    assert trained_text(record) == after
    assert trained_text({"architecture": text}) == text


@pytest.mark.parametrize(
    "groups",
    [
        (),
        ({"name": "m", "kind": "token_mixer", "optimiser": "muon"},),
        ({"name": "l", "optimiser": "lion"},),
        ({"name": "s", "optimiser": "sgd", "learning_rate": 0.01},),
        ({"name": "a", "optimiser": "adafactor"},),
    ],
    ids=["adamw", "muon", "lion", "sgd", "adafactor"],
)
def test_memory_of_old_weights_goes_on_and_new_weights_begin_afresh(
    settings: Settings, groups: tuple[dict[str, object], ...]
) -> None:
    """One update of a grown model is that of two optimisers alone: the old one on old weights, a fresh one on new."""
    model, what = _parity_model(GROWING["mixers"])
    spec = settings(groups=groups)
    first = optimiser(model, spec)

    def learn(step: int, *ones: torch.optim.Optimizer) -> None:
        batch = what.train_batch(step, 8, 0)
        model.train()
        model.zero_grad()
        what.loss(model(batch.inputs), batch).backward()
        for one in ones:
            one.step()

    for step in range(3):
        learn(step, first)
    fresh = grow(model, _stage(grow={"stage": 1}), seed=0)
    kept = {id(w): {k: _plain(v) for k, v in first.state[w].items()} for w in first.state}
    second = optimiser(model, spec)
    survive(first, second, [fresh])
    for weight in second.state:
        if id(weight) in kept:
            found = {k: _plain(v) for k, v in second.state[weight].items()}
            assert found.keys() == kept[id(weight)].keys()
            assert all(_same(found[k], kept[id(weight)][k]) for k in found)
    assert not [w for w in fresh if second.state.get(w)]
    start = {id(p): p.detach().clone() for p in model.parameters()}
    learn(3, second)
    ended = {id(p): p.detach().clone() for p in model.parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(start[id(parameter)])
    for w in first.state:  # as they were: both share their tensors
        for k, v in kept[id(w)].items():
            first.state[w][k] = v.clone() if isinstance(v, torch.Tensor) else v
    for part in getattr(first, "parts", []):
        for w in part.state:
            part.state[w] = first.state[w]
    others = optimiser(model, spec)
    learn(3)
    gradients = {id(p): p.grad for p in model.parameters()}
    new = {id(w) for w in fresh}
    for mine, one in ((False, first), (True, others)):
        for parameter in model.parameters():
            parameter.grad = gradients[id(parameter)] if (id(parameter) in new) is mine else None
        one.step()
    for parameter in model.parameters():
        assert torch.equal(parameter, ended[id(parameter)])


def _plain(value: object) -> object:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


def test_schedule_free_counts_anew_for_what_is_new(settings: Settings) -> None:
    model, what = _parity_model(GROWING["mixers"])
    spec = settings(groups=({"name": "f", "optimiser": "schedule_free"},))
    first = optimiser(model, spec)
    for step in range(4):
        batch = what.train_batch(step, 8, 0)
        model.zero_grad()
        what.loss(model(batch.inputs), batch).backward()
        first.step()
    fresh = grow(model, _stage(grow={"stage": 1}), seed=0)
    second = optimiser(model, spec)
    survive(first, second, [fresh])
    new = {id(w) for w in fresh}
    counts = {
        (id(group["params"][0]) in new): group["k"]
        for group in second.param_groups
        if group["params"]
    }
    assert counts == {False: 4, True: 0}
    assert all(group["train_mode"] for group in second.param_groups)
    for group in second.param_groups:
        assert len({id(w) in new for w in group["params"]}) == 1, "old and new are never mixed"


def test_growing_beyond_what_a_model_may_be_is_told(settings: Settings) -> None:
    model, what = _parity_model("{id: stage, repeat: 400, nodes: [{use: mlp, ratio: 1.0}]}")
    stages = ({"name": "a", "until": 2}, {"name": "b", "grow": {"stage": 200}})
    with pytest.raises(SpecError, match="600 repeats"):
        check_stages(model, what, settings(stages=stages))
