"""What is seen of a forward equals what one computes by hand, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridlab.tasks.base import Task
from hybridlab.training.activation_metrics import Look
from hybridlab.training.component_metrics import ComponentMetrics
from hybridlab.training.loop import train
from hybridlab.training.spec import TrainSpec
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]


def seen(body: nn.Module, x: torch.Tensor) -> dict[str, float]:
    look = Look({"part": body})
    with look.active():
        body(x)
    assert not body._forward_hooks and not body._forward_pre_hooks
    return {name: float(value) for name, value in look.told()["part"].items()}


def test_mean_variance_and_dead_units_of_the_output() -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((x, torch.full_like(x, 0.5)), -1)

    x = torch.randn(4, 9, 6) + 2
    y = Half()(x)
    assert seen(Half(), x) == {
        "activation_mean": pytest.approx(float(y.mean()), rel=1e-5),
        "activation_variance": pytest.approx(float(y.var(correction=0)), rel=1e-5),
        "dead_share": 0.5,
    }


def test_units_behind_a_relu_are_dead_where_no_position_lights_them() -> None:
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)
            with torch.no_grad():
                self.first.bias[:6] -= 100

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(torch.relu(self.first(x)))
            return y

    assert seen(Mlp(), torch.randn(4, 9, 6))["dead_share"] == 0.75


def test_gates_are_saturated_where_their_slope_is_a_twentieth_of_its_largest() -> None:
    class Gates(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sigmoid() + torch.tanh(x)

    x = torch.linspace(-6, 6, 1001)[None, :, None]
    share = torch.cat([x.sigmoid() * (1 - x.sigmoid()) / 0.25, 1 - x.tanh() ** 2]) < 0.05
    assert seen(Gates(), x)["saturated_share"] == pytest.approx(
        float(share.float().mean()), abs=2e-3
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_spread_or_sharp(tiny: Tiny, parity: Task, causal: bool) -> None:
    model = tiny(parity, f"use: attention, heads: 2, kv_heads: 1, causal: {str(causal).lower()}")
    body = dict(model.slots())["attention"].body
    x = torch.randn(2, 12, 8)
    with torch.no_grad():
        body.project_in.weight *= 1e-4
    assert seen(body, x)["attention_entropy"] == pytest.approx(1.0, abs=1e-4)

    torch.nn.init.normal_(body.project_in.weight)
    q, k = (part.transpose(1, 2) for part in _queries_and_keys(body, x))
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(12, 12).triu(1).bool(), -math.inf)
    entropy = torch.special.entr(scores.softmax(-1)).sum(-1)[1]
    most = torch.full((12,), 12.0) if not causal else torch.arange(1, 13.0)
    share = (entropy / most.log())[:, 1 if causal else 0 :].mean()
    assert seen(body, x)["attention_entropy"] == pytest.approx(float(share), abs=1e-5)


def _queries_and_keys(body: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Catch what attention is called with."""
    caught: list[torch.Tensor] = []
    from torch.overrides import TorchFunctionMode

    class Catch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.nn.functional.scaled_dot_product_attention:
                caught.extend(args[:2])
            return func(*args, **(kwargs or {}))

    with Catch():
        body(x)
    return caught[0].detach().transpose(1, 2), caught[1].detach().transpose(1, 2)


def test_a_run_tells_it_of_its_components(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    model = tiny(parity, "use: attention, heads: 2", "use: moe, experts: 3", "use: min_gru")
    told: dict[str, float] = {}
    train(
        model,
        parity,
        settings(steps=1, accumulation=2),
        folder=tmp_path,
        on_metrics=lambda step, values: told.update(values),
    )
    for name in ("activation_mean", "activation_variance", "dead_share", "weight_norm"):
        assert (
            f"{name}/attention" in told and f"{name}/lm_head" in told
        ) or f"{name}/classifier" in told
    assert 0 < told["attention_entropy/attention"] <= 1
    assert told["saturated_share/min_gru"] < 0.1
    assert 0.5 < told["router_entropy/moe"] <= 1


def test_nothing_is_looked_at_between_measurements(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    metrics = ComponentMetrics(tiny(parity), settings(component_metrics_every=4))
    assert [metrics.begin(step) for step in (1, 2, 3, 4, 5)] == [True, False, False, True, False]
    with metrics.looking():
        assert not any(m._forward_hooks for m in metrics._model.modules())
