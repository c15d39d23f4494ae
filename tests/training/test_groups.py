"""Groups of weights: who belongs where, equal to each optimiser run alone, resumed to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch

from hybridlab.errors import SpecError
from hybridlab.training.groups import OTHERS, assigned, members, optimiser, set_rates
from hybridlab.training.lion import Lion
from hybridlab.training.loop import train
from hybridlab.training.result import BEST, CHECKPOINTS
from hybridlab.training.spec import TrainSpec, make
from hybridlab.training.together import Together
from hybridlab.training.weights import read_tensors

NODES = ("use: lstm", "use: mamba2, heads: 2, head_dim: 4, state: 4", "use: mlp")


def spec(*groups: dict[str, Any], **more: Any) -> TrainSpec:
    return make({"task": "parity", "groups": list(groups), **more})


def test_a_weight_belongs_to_the_first_group_that_fits(tiny, parity) -> None:
    model = tiny(parity, *NODES)
    groups = spec(
        {"name": "rates", "use": "mamba2", "weights": "*rate*"},
        {"name": "mixers", "kind": "token_mixer"},
        {"name": "late", "depth": [0.6, 1.0]},
    ).groups
    found = assigned(model, groups)
    assert [one.weight for one in found["rates"]] == ["log_rate"]
    assert {one.use for one in found["mixers"]} == {"lstm", "mamba2"}
    assert "log_rate" not in [one.weight for one in found["mixers"]]
    assert {one.path for one in found["late"]} == {"mlp", "lm_head"}
    assert {one.path for one in found[OTHERS]} == {"token_embedding"}
    assert sum(len(part) for part in found.values()) == len(list(model.parameters()))
    assert len({id(one.parameter) for one in members(model)}) == len(members(model))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([{"name": "a", "match": "nothing"}], "'a' fits no weights.*match: nothing"),
        ([{"name": "a"}, {"name": "b", "use": "lstm"}], "earlier groups take them"),
        ([{"name": "a"}, {"name": "a"}], "is the name of another group too"),
        ([{"name": "a", "frozen": True}], "freeze every weight"),
    ],
)
def test_a_group_that_cannot_be_is_told(tiny, parity, groups, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        optimiser(tiny(parity, *NODES), spec(*groups))


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"name": "others"}, "groups"),
        ({"name": "a", "depth": [0.9, 0.1]}, "depth goes from 0.9 down to 0.1"),
        ({"name": "a", "optimizer": "sgd"}, "optimizer"),
        ({"name": "a", "optimiser": "lamb"}, "optimiser"),
        ({"name": "a", "optimiser": "schedule_free", "schedule": "cosine"}, "takes no schedule"),
        ({"name": "a", "optimiser": "schedule_free", "betas": [0, 0.9]}, "first beta above 0"),
    ],
)
def test_a_wrong_setting_names_its_place(group: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec(group)


def gradients(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def schedule_free(weights: Any) -> torch.optim.Optimizer:
    found = schedulefree.AdamWScheduleFree(weights, lr=1.0, betas=(0.8, 0.9), weight_decay=0.1)
    found.train()
    return found


ALONE: dict[str, Any] = {
    "lion": lambda p: Lion(p, lr=1.0, betas=(0.8, 0.9), weight_decay=0.1),
    "schedule_free": schedule_free,
    "adamw": lambda p: torch.optim.AdamW(p, lr=1.0, betas=(0.8, 0.9), weight_decay=0.1, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.8, nesterov=True, weight_decay=0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1.0, weight_decay=0.1),
    "muon": lambda p: torch.optim.Muon(
        p, lr=1.0, momentum=0.8, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    ),
}


@pytest.mark.parametrize("kind", ALONE)
def test_a_group_is_its_optimiser_run_alone(tiny, parity, kind: str) -> None:
    """Bit for bit: three updates of one component's matrices beside AdamW on all others."""
    model, twin = tiny(parity, *NODES), tiny(parity, *NODES)
    group = {"name": "one", "match": "mlp", "weights": "*.weight", "optimiser": kind}
    group |= {"momentum": 0.8, "betas": [0.8, 0.9], "weight_decay": 0.1, "rate": 0.5}
    settings = spec(group, learning_rate=0.02, warmup_steps=0, schedule="constant")
    mine = optimiser(model, settings)
    theirs = [
        one.parameter
        for one in members(twin)
        if one.path == "mlp" and one.weight.endswith(".weight")
    ]
    alone = ALONE[kind](theirs)
    for step in range(3):
        rates = set_rates(mine, settings, step)
        assert rates == {"one": 0.01, OTHERS: 0.02}
        alone.param_groups[0]["lr"] = 0.01
        gradients(model, step)
        gradients(twin, step)
        mine.step()
        alone.step()
    ours = [
        one.parameter
        for one in members(model)
        if one.path == "mlp" and one.weight.endswith(".weight")
    ]
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_each_group_has_a_rate_of_its_own(tiny, parity) -> None:
    settings = spec(
        {"name": "slow", "use": "lstm", "rate": 0.1},
        {
            "name": "own",
            "use": "mlp",
            "learning_rate": 0.5,
            "schedule": "constant",
            "warmup_steps": 0,
        },
        learning_rate=1.0,
        warmup_steps=4,
        steps=10,
        final_rate=0.0,
    )
    found = optimiser(tiny(parity, *NODES), settings)
    assert set_rates(found, settings, 0) == pytest.approx({"slow": 0.025, "own": 0.5, OTHERS: 0.25})
    assert set_rates(found, settings, 9) == pytest.approx({"slow": 0.0, "own": 0.5, OTHERS: 0.0})
    assert {group["lr"] for group in found.param_groups} == {0.5, 0.0}


def test_lion_is_the_papers() -> None:
    """Algorithm 2 of https://arxiv.org/abs/2302.06675, number by number."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))
    still = torch.nn.Parameter(torch.ones(2))
    wanted, moment = weight.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    found = Lion([weight, still], lr=0.03, betas=(0.9, 0.99), weight_decay=0.2)
    for _ in range(4):
        gradient = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        weight.grad = gradient.clone()
        found.step()
        assert torch.equal(weight.grad, gradient), "gradients are only read"
        update = torch.sign(0.9 * moment + 0.1 * gradient)
        wanted = wanted - 0.03 * (update + 0.2 * wanted)
        moment = 0.99 * moment + 0.01 * gradient
    torch.testing.assert_close(weight.detach(), wanted)
    torch.testing.assert_close(found.state[weight]["exp_avg"], moment)
    assert torch.equal(still.detach(), torch.ones(2)) and still not in found.state


def test_schedule_free_has_no_schedule_but_a_warm_up(tiny, parity) -> None:
    group = {"name": "free", "optimiser": "schedule_free", "rate": 0.5}
    settings = spec(group, learning_rate=1.0, warmup_steps=4, steps=10, final_rate=0.0)
    found = optimiser(tiny(parity, *NODES), settings)
    rates = [set_rates(found, settings, step)["free"] for step in range(10)]
    assert rates == pytest.approx([0.125, 0.25, 0.375] + 7 * [0.5])


def test_averages_are_scored_and_kept_and_learning_goes_on_beside_them(
    tiny, parity, settings, tmp_path: Path
) -> None:
    """Against the library alone: the final weights are its average, however often it was scored before."""
    group = {"name": "free", "optimiser": "schedule_free", "weight_decay": 0.1}
    how = settings(groups=[group], steps=6, eval_every=2, clip_norm=0.0, warmup_steps=2)
    model, twin = tiny(parity, *NODES), tiny(parity, *NODES)
    train(model, parity, how, folder=tmp_path / "a")
    rarely = tiny(parity, *NODES)
    train(rarely, parity, how.model_copy(update={"eval_every": 6}), folder=tmp_path / "b")
    alone = schedulefree.AdamWScheduleFree(
        twin.parameters(), lr=how.learning_rate, betas=how.betas, weight_decay=0.1, warmup_steps=2
    )
    alone.train()
    for step in range(6):
        batch = parity.train_batch(step, how.batch, how.seed)
        parity.loss(twin(batch.inputs), batch).backward()
        alone.step()
        alone.zero_grad()
    learning = [weight.detach().clone() for weight in twin.parameters()]
    alone.eval()
    for ours, seldom, theirs in zip(
        model.parameters(), rarely.parameters(), twin.parameters(), strict=True
    ):
        assert torch.equal(ours, seldom), "scoring must not change what is learned"
        torch.testing.assert_close(ours, theirs)
    assert any(
        (a - b).abs().max() > 1e-4 for a, b in zip(learning, model.parameters(), strict=True)
    )
    (newest,) = sorted((tmp_path / "a" / CHECKPOINTS).glob("step-00000006"))
    kept = read_tensors(newest / "model.safetensors")
    for there, (name, _) in zip(learning, model.named_parameters(), strict=True):
        torch.testing.assert_close(kept[name], there)  # a checkpoint goes on learning
    last = read_tensors(tmp_path / "a" / BEST)
    assert not all(torch.equal(last[name], kept[name]) for name, _ in model.named_parameters())


GROUPS = (
    {"name": "lion", "use": "lstm", "optimiser": "lion", "rate": 0.2},
    {"name": "muon", "kind": "token_mixer", "optimiser": "muon", "clip_norm": 0.5},
    {"name": "still", "use": "token_embedding", "frozen": True},
    {"name": "free", "use": "mlp", "weights": "*.weight", "optimiser": "schedule_free"},
    {"name": "plain", "use": "mlp", "optimiser": "sgd", "rate": 3.0},
    {"name": "rows", "use": "lm_head", "optimiser": "adafactor"},
)


def test_a_training_goes_on_to_the_bit(tiny, parity, settings, tmp_path: Path) -> None:
    """Every kind of optimiser at once, broken off and gone on with."""
    how = settings(groups=GROUPS, steps=8, checkpoint_every=3)
    points: dict[str, list[float]] = {}

    def heard(step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            points.setdefault(name, []).append(value)

    model = tiny(parity, *NODES)
    before = model.state_dict()["root.token_embedding.body.table.weight"].clone()
    whole = train(model, parity, how, folder=tmp_path / "whole", on_metrics=heard)
    assert torch.equal(model.state_dict()["root.token_embedding.body.table.weight"], before)
    rates = {name for name in points if name.startswith("learning_rate")}
    assert rates == {f"learning_rate/{name}" for name in ("lion", "muon", "free", "plain", "rows")}
    stops = iter([None] * 5 + ["interrupt"])
    broken = tmp_path / "broken"
    first = train(tiny(parity, *NODES), parity, how, folder=broken, should_stop=lambda: next(stops))
    assert first.state == "interrupted"
    again = train(tiny(parity, *NODES), parity, how, folder=broken, resume=True)
    assert again.weights_sha256 == whole.weights_sha256


def test_without_groups_nothing_is_wrapped(tiny, parity) -> None:
    assert isinstance(optimiser(tiny(parity, *NODES), spec()), torch.optim.AdamW)
    assert isinstance(optimiser(tiny(parity, *NODES), spec({"name": "a", "use": "lstm"})), Together)
