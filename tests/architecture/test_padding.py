"""Padded samples give what each gives by itself at its own length: outputs, gradients, losses beside, exits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType

SERIES = TensorType(TensorKind.SERIES, ("B", "L", 2))
ENDS = torch.tensor([5, 13, 1, 9, 5, 12])
MIXERS = [
    name
    for name, info in palette().items()
    if info.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER) and info.cls.min_inputs == 1
]
DESIGNS = {
    **{name: f"{{use: {name}}}" for name in MIXERS},
    "both ways": "{use: attention, heads: 2, causal: false}",
    "window both ways": "{use: attention, heads: 2, causal: false, window: 3}",
    "conv both ways": "{use: short_conv, causal: false}",
    "top_k": "{use: mixture_of_depths, choice: top_k, capacity: 0.5}",
    "expert_choice": "{use: moe, routing: expert_choice}",
    "capacity": "{use: moe, capacity_factor: 1.0, balance_weight: 0.0}",
    "cross": "{id: other, use: mlp}\n  - {use: cross_attention, heads: 2, causal: false, inputs: [other, other]}",
    "hourglass": "{id: long, use: lstm}\n  - {id: short, use: downsample, stride: 3}\n  - {id: slow, use: attention, "
    "heads: 2, causal: false}\n  - {use: upsample, stride: 3, causal: false, inputs: [slow, long]}",
    "short": "{use: downsample, stride: 2, method: conv}\n  - {use: fourier_mixing}",
    "group": "{id: stage, repeat: 2, residual: pre, nodes: [{use: fourier_mixing}, {use: gru}]}",
}
HEADS = (
    "{use: classifier, classes: 3}",
    "{use: classifier, classes: 3, pool: last}",
    "{use: regressor, pool: first}",
    "{use: lm_head, vocab: 3}",
    "{use: sequence_decoder, vocab: 3}",
)


def made(*nodes: str) -> GraphModel:
    lines = "".join(f"  - {node}\n" for node in ("{use: pixel_series}", *nodes))
    return build(loads(f"name: padded\nwidth: 16\nnodes:\n{lines}"), SERIES, seed=0)


def samples() -> Tensor:
    """Return samples with large numbers behind their ends, so that whoever reads them is seen."""
    x = torch.randn(6, 13, 2, generator=torch.Generator().manual_seed(1))
    return x + 7.0 * behind(x).unsqueeze(-1)


def behind(x: Tensor) -> Tensor:
    return torch.arange(x.shape[1]) >= ENDS[:, None]


def one_by_one(model: GraphModel, x: Tensor) -> list[Tensor]:
    return [model(x[i : i + 1, :end])[0] for i, end in enumerate(ENDS.tolist())]


def own(y: Tensor) -> list[Tensor]:
    """Return what was given of each sample's own positions."""
    return [one[:end] if y.dim() > 2 else one for one, end in zip(y, ENDS.tolist(), strict=True)]


@pytest.mark.parametrize("design", DESIGNS)
@torch.no_grad()
def test_outputs_do_not_depend_on_padding(design: str) -> None:
    model = made(DESIGNS[design], HEADS[0]).eval()
    x = samples()
    alone = torch.stack(one_by_one(model, x))
    torch.testing.assert_close(model(x, ENDS), alone, rtol=1e-4, atol=1e-5)
    assert (model(x) - alone).abs().max() > 1e-3, "padding was not read anyway: this shows nothing"


@pytest.mark.parametrize("head", HEADS)
def test_heads_answer_for_own_positions_with_the_same_gradients(head: str) -> None:
    model = made("{use: gru}", "{use: moe, routing: expert_choice, experts: 2}", head)
    x = samples()
    given = model(x, ENDS)
    assert given.shape == model(x).shape
    sum(one.square().sum() for one in own(given)).backward()  # type: ignore[union-attr]
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    alone = one_by_one(model, x)
    torch.testing.assert_close(own(given), alone, rtol=1e-4, atol=1e-5)
    sum(one.square().sum() for one in alone).backward()  # type: ignore[union-attr]
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("over", ["sequence", "position"])
@torch.no_grad()
def test_samples_leave_early_as_they_would_alone(over: str) -> None:
    head = "{use: classifier, classes: 3}" if over == "sequence" else "{use: lm_head, vocab: 3}"
    way_out = f"{{id: out, use: early_exit, outputs: 3, over: {over}, threshold: 1.0}}"
    model, x = made("{use: lstm}", way_out, "{use: fourier_mixing}", head).eval(), samples()
    body = dict(model.slots())["out"].body
    torch.nn.init.normal_(body.get_parameter("scores.weight"), std=0.3)
    model(x, ENDS)
    middle = float(body.certainty().sort().values[2:4].mean())  # type: ignore[operator]
    body.params = body.params.model_copy(update={"threshold": middle})
    left, alone = [], []
    for i, end in enumerate(ENDS.tolist()):
        alone.append(model(x[i : i + 1, :end])[0])
        left.append(model.left()["out"])
    together = own(model(x, ENDS))
    assert model.left()["out"] == sum(left) and 0 < sum(left) < len(ENDS)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_losses_beside_are_summed_over_lengths() -> None:
    nodes = "{use: moe, capacity_factor: 1.0, balance_weight: 1.0}", HEADS[0]
    model, x = made(*nodes), samples()
    model(x, ENDS)
    together = model.aux_loss()
    shares = []
    for end in ENDS.unique().tolist():
        rows = end == ENDS
        model(x[rows, :end])
        loss = model.aux_loss()
        assert loss is not None
        shares.append(loss * (int(rows.sum()) * end / int(ENDS.sum())))
    assert together is not None
    torch.testing.assert_close(together, torch.stack(shares).sum())


def test_without_ends_nothing_changes() -> None:
    model, x = made("{use: lstm}", HEADS[0]), samples()
    full = torch.full((6,), 13)
    torch.testing.assert_close(model(x), model(x, full))
