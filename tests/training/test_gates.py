"""Parts of a model that do not take part in every stage: frozen weights, closed branches, idle experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.tasks.base import Task
from hybridlab.training.loop import train
from tests.training.staged import WAYS, hybrid, staged, trained


def test_frozen_components_stay_and_learn_again(tmp_path: Path, mqar: Task) -> None:
    start = hybrid(mqar).state_dict()
    spec = staged(WAYS["frozen"], weight_decay=0.1)
    moved: dict[int, set[str]] = {}
    for kill in (4, 5, 14):
        model = trained(mqar, spec, tmp_path / str(kill), die_after=kill)[2]
        now = model.state_dict()
        moved[kill] = {
            name
            for name, old in start.items()
            if not torch.equal(old, now[name if name in now else _first(name)])
        }
    assert not {name for name in moved[4] if name.startswith("root.stage.")}
    assert {name for name in moved[4] if name.startswith("root.s.")}
    assert {name for name in moved[5] if name.startswith("root.stage.")}


def _first(name: str) -> str:
    """Return a name in the group that ran once, as the first repeat's."""
    return name.replace("root.stage.body.", "root.stage.0.")


def test_branches_open_and_experts_join(tmp_path: Path, mqar: Task) -> None:
    spec = staged(WAYS["gates"])
    seen: list[tuple[float, float, int | None]] = []
    model = hybrid(mqar)
    slots = dict(model.slots())

    def look(step: int) -> None:
        openings = slots["join"].body.openings
        share = 1.0 if openings is None else openings[1]
        seen.append((share, slots["stage.attention"].opening, slots["stage.moe"].body.active))

    train(model, mqar, spec, folder=tmp_path, on_step=look)
    shares, factors, experts = zip(*seen, strict=True)
    assert shares == (*[0.0] * 5, *[pytest.approx(n / 6) for n in range(1, 7)], 1.0, 1.0, 1.0)
    assert factors == (*[0.0] * 9, *[pytest.approx(n / 5) for n in range(1, 6)]), "by the end"
    assert experts == (*[1] * 5, *[2] * 4, *[None] * 5)
    assert slots["join"].body.openings is None and slots["stage.attention"].opening == 1.0


def test_a_closed_branch_adds_nothing_and_one_expert_alone_is_chosen(mqar: Task) -> None:
    model = hybrid(mqar).eval()
    slots = dict(model.slots())
    x = mqar.train_batch(0, 2, 0).inputs
    slots["stage.moe"].body.use_experts(2)
    slots["join"].body.let_in(1, 0.0)
    with torch.no_grad():
        before = model(x)
        for parameter in [*slots["s"].parameters(), slots["stage.moe"].body.experts_in[2]]:
            parameter.add_(1.0)
        after = model(x)
    assert torch.equal(before, after)
    load = model.reports()["stage.moe"]["load"]
    assert isinstance(load, list) and load[2] == 0.0 and sum(load) == pytest.approx(1.0)


@pytest.mark.parametrize("routing", ["softmax", "sigmoid"])
def test_fewer_experts_are_a_mixture_of_those_alone(routing: str) -> None:
    """With three of five at work, a mixture is that of three experts with the same weights."""

    def body(experts: int) -> Any:
        text = (
            f"name: x\nwidth: 8\nnodes:\n  - {{use: moe, experts: {experts}, top_k: 2, "
            f"routing: {routing}}}\n"
        )
        return dict(build(loads(text), seed=0).slots())["moe"].body

    many, few = body(5), body(3)
    with torch.no_grad():
        few.router.weight.copy_(many.router.weight[:3])
        few.experts_in.copy_(many.experts_in[:3])
        few.experts_out.copy_(many.experts_out[:3])
    many.use_experts(3)
    x = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(many(x), few(x))
    torch.testing.assert_close(many.reference(x), few(x), rtol=1e-4, atol=1e-5)
    losses = many.aux_loss(), few.aux_loss()
    assert (losses[0] is None) == (losses[1] is None)
    if losses[0] is not None and losses[1] is not None:
        torch.testing.assert_close(*losses)
    if routing == "sigmoid":
        many.after_update()
        few.after_update()
        assert torch.equal(many.selection_bias[:3], few.selection_bias)
        assert not many.selection_bias[3:].any(), "who does not work is not called either"


def test_half_open_joins_are_as_their_formula(mqar: Task) -> None:
    join = dict(hybrid(mqar).slots())["join"].body
    a, b = torch.randn(2, 1, 3, 8, generator=torch.Generator().manual_seed(0))
    join.let_in(1, 0.25)
    with torch.no_grad():
        join.gates.normal_(generator=torch.Generator().manual_seed(1))
        found, naive = join(a, b), join.reference(a, b)
    torch.testing.assert_close(found, naive)
    shares = join.gates.softmax(0).detach() * torch.tensor([[1.0], [0.25]])
    shares = shares / shares.sum(0)
    norm = [x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() for x in (a, b)]
    torch.testing.assert_close(found, shares[0] * norm[0] + shares[1] * norm[1])
