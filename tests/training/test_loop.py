"""The loop: it learns, it stops when it should, and what it does is what its settings say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hybridlab.errors import RunError
from hybridlab.tasks.base import Batch, Task
from hybridlab.tasks.registry import task
from hybridlab.training import checkpoint
from hybridlab.training.evaluation import evaluate
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.result import CHECKPOINTS
from hybridlab.training.spec import TrainSpec
from hybridlab.training.weights import read_tensors, weights_sha256
from tests.training.conftest import Tiny, after

Settings = Callable[..., TrainSpec]


def test_a_tiny_lstm_learns_parity_and_carries_it_to_longer_sequences(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(
        steps=500,
        batch=32,
        learning_rate=3e-2,
        warmup_steps=10,
        eval_every=25,
        target=0.999,
        checkpoint_every=500,
    )
    seen: list[tuple[int, dict[str, float]]] = []
    result = train(
        tiny(parity, width=16),
        parity,
        spec,
        folder=tmp_path,
        on_metrics=lambda step, values: seen.append((step, values)),
    )
    assert result.stop_reason == "target" and result.state == "done" and result.steps < 500
    assert result.metrics["test_accuracy"] > 0.99 and result.metrics["test_accuracy_12"] > 0.97
    losses = [(step, values["loss"]) for step, values in seen if "loss" in values]
    assert [step for step, _ in losses] == list(range(1, result.steps + 1))
    assert losses[0][1] > 0.5 > 0.1 > losses[-1][1]
    scored = [
        step for step, values in seen if "val_accuracy" in values and "test_accuracy" not in values
    ]
    assert scored == list(range(25, result.steps + 1, 25))
    assert {"learning_rate", "grad_norm"} <= set(seen[0][1])


def test_the_result_and_the_weights_are_on_disk(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    model = tiny(parity)
    result = train(model, parity, settings(), folder=tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result.as_dict()
    assert result.stop_reason == "steps" and result.steps == 12 and result.seconds > 0
    other = tiny(parity, seed=1)
    assert weights_sha256(other) != result.weights_sha256
    other.load_state_dict(read_tensors(tmp_path / "weights.safetensors"))
    assert weights_sha256(other) == result.weights_sha256 == weights_sha256(model)
    assert set(result.metrics) == {
        "val_accuracy",
        "val_accuracy_12",
        "test_accuracy",
        "test_accuracy_12",
    }


def test_the_best_validation_is_kept_beside_the_final_weights(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    scores: dict[int, float] = {}

    def note(step: int, values: dict[str, float]) -> None:
        if "val_accuracy" in values:
            scores.setdefault(step, values["val_accuracy"])

    result = train(
        tiny(parity),
        parity,
        settings(steps=30, learning_rate=0.3),
        folder=tmp_path,
        on_metrics=note,
    )
    step = max(scores, key=lambda at: (scores[at], -at))
    assert result.best == {"step": float(step), "value": scores[step]}
    best, again = tiny(parity), tiny(parity)
    best.load_state_dict(read_tensors(tmp_path / "best.safetensors"))
    train(
        again,
        parity,
        settings(steps=30, learning_rate=0.3),
        folder=tmp_path / "again",
        **after(step, "cancel"),
    )
    assert weights_sha256(best) == weights_sha256(again)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulation_makes_the_same_update(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, parts: int
) -> None:
    weights = []
    for accumulation in (1, parts):
        model = tiny(parity, "use: attention, heads: 2", "use: swiglu").double()
        spec = settings(
            accumulation=accumulation, batch=7 if parts == 3 else 6, precision="float32"
        )
        train(model, parity, spec, folder=tmp_path / str(accumulation))
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-11)


class Uneven(nn.Module):
    """One weight, to follow an update by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1).float() * self.scale


def test_parts_with_few_answers_count_little(
    settings: Settings, tmp_path: Path, parity: Task
) -> None:
    targets = torch.full((4, 3), -100)
    targets[0], targets[3, 0] = 1, 0  # the first half holds three answers, the second one

    class Sparse(type(parity)):  # type: ignore[misc]
        def train_batch(self, step: int, batch: int, seed: int) -> Batch:
            return Batch(torch.tensor([[1, 2, 3], [1, 1, 1], [4, 4, 4], [5, 1, 1]]), targets)

    what = Sparse(parity.params)
    norms = []
    for accumulation in (1, 2):
        seen: list[dict[str, float]] = []
        spec = settings(steps=1, batch=4, accumulation=accumulation)
        train(
            Uneven(),
            what,
            spec,
            folder=tmp_path / str(accumulation),
            on_metrics=lambda s, v, k=seen: k.append(v),
        )
        norms.append((seen[0]["loss"], seen[0]["grad_norm"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_the_update_is_adamw_with_clipping_as_written_in_the_paper(
    settings: Settings, tmp_path: Path, parity: Task
) -> None:
    model, spec = Uneven(), settings(steps=3, clip_norm=0.05, weight_decay=0.1)
    train(model, parity, spec, folder=tmp_path)
    w, m, v = torch.zeros(2, dtype=torch.float64), torch.zeros(2), torch.zeros(2)
    for step in range(3):
        batch = parity.train_batch(step, spec.batch, spec.seed)
        logits = batch.inputs.unsqueeze(-1).double() * w
        error = logits.softmax(-1) - nn.functional.one_hot(batch.targets, 2)
        gradient = (error * batch.inputs.unsqueeze(-1)).sum((0, 1)) / batch.targets.numel()
        gradient = gradient * min(1.0, 0.05 / (float(gradient.norm()) + 1e-6))
        m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
        rate = 1e-2 * (step + 1) / 3
        w = w - rate * (m / (1 - 0.9 ** (step + 1))) / (
            (v / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
        )
    torch.testing.assert_close(model.scale.detach().double(), w, rtol=1e-4, atol=1e-6)


def test_patience_stops_a_training_that_does_not_improve(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(steps=1000, learning_rate=1e-12, eval_every=2, patience=3)
    result = train(tiny(parity), parity, spec, folder=tmp_path)
    assert result.stop_reason == "patience" and result.steps == 8
    assert result.best["step"] == 2.0 and "test_accuracy" in result.metrics


def test_the_target_must_be_reached_on_every_validation_split(
    settings: Settings, tmp_path: Path
) -> None:
    what = task("parity", length=1, longer=40)  # one bit is its own parity: easy; forty are not

    class Copies(Uneven):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([1.0 - x.float(), x.float()], -1) + 0 * self.scale

    spec = settings(task_params={"length": 1, "longer": 40}, steps=6, eval_every=2, target=0.9)
    result = train(Copies(), what, spec, folder=tmp_path)
    assert result.metrics["val_accuracy"] == 1.0 and result.metrics["val_accuracy_40"] < 0.9
    assert result.stop_reason == "steps"


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("interrupt", "interrupted")])
def test_a_wish_to_stop_leaves_a_checkpoint_and_no_test_score(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, wish: str, state: str
) -> None:
    order: list[str] = []
    result = train(
        tiny(parity),
        parity,
        settings(checkpoint_every=100),
        folder=tmp_path,
        before_checkpoint=lambda: order.append("flush"),
        **after(7, wish),
    )
    assert (result.state, result.stop_reason, result.steps) == (state, wish, 7)
    assert not [name for name in result.metrics if name.startswith("test")]
    found = checkpoint.latest(tmp_path / CHECKPOINTS)
    assert found is not None and found.step == 7 and order == ["flush"]
    assert not (tmp_path / "weights.safetensors").exists()


class Exploding(nn.Module):
    """A model whose output is not a number from one step on."""

    def __init__(self, inner: nn.Module, at: int, value: float) -> None:
        super().__init__()
        self.inner, self.at, self.value, self.count = inner, at, value, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += self.training
        output: Tensor = self.inner(x)
        return output * self.value if self.count == self.at else output


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "not a number"), (math.inf, "not a number")]
)
def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, value: float, name: str
) -> None:
    # one forward of one and one of two samples measure the memory before the first step
    model = Exploding(tiny(parity), at=2 + 6, value=value)
    with pytest.raises(RunError) as caught:
        train(model, parity, settings(), folder=tmp_path)
    text = str(caught.value)
    assert (
        "step 6" in text
        and name in text
        and "checkpoint is of step 4" in text
        and "learning_rate" in text
    )
    found = checkpoint.latest(tmp_path / CHECKPOINTS)
    assert found is not None and found.step == 4
    assert all(tensor.isfinite().all() for tensor in found.model().values())


def test_bfloat16_trains_float32_weights(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    plain, half = tiny(parity, "use: attention, heads: 2"), tiny(parity, "use: attention, heads: 2")
    dtypes = set()
    half.root.register_forward_hook(lambda *_: None)
    for module in half.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    train(plain, parity, settings(precision="float32"), folder=tmp_path / "a")
    train(half, parity, settings(precision="bfloat16"), folder=tmp_path / "b")
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    left, right = (nn.utils.parameters_to_vector(model.parameters()) for model in (plain, half))
    assert not torch.equal(left, right)
    torch.testing.assert_close(left, right, rtol=0.3, atol=0.05)


def test_balance_losses_and_loads_of_experts_are_used_and_told(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    told: dict[str, float] = {}
    sums = []
    for weight in (0.0, 5.0):
        model = tiny(parity, f"use: moe, experts: 2, top_k: 1, balance_weight: {weight}")
        train(
            model,
            parity,
            settings(),
            folder=tmp_path / str(weight),
            on_metrics=lambda s, v: told.update(v),
        )
        sums.append(nn.utils.parameters_to_vector(model.parameters()).sum().item())
    assert sums[0] != sums[1], "the balance loss changes nothing"
    loads = [value for name, value in told.items() if name.startswith("moe.load")]
    assert len(loads) == 2 and sum(loads) == pytest.approx(1.0)


def test_what_no_gradient_moves_is_moved_once_an_update(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    """A bias that goes 0.25 a step is a multiple of it; parts of a batch and validations count for nothing."""
    model = tiny(parity, "use: moe, experts: 2, top_k: 1, routing: sigmoid, bias_step: 0.25")
    train(model, parity, settings(steps=3, accumulation=2, eval_every=1), folder=tmp_path)
    (bias,) = (buffer for name, buffer in model.named_buffers() if "selection_bias" in name)
    assert bias.any() and set(bias.abs().tolist()) <= {0.0, 0.25, 0.5, 0.75}


def test_points_are_as_far_apart_as_asked(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    steps: list[int] = []
    train(
        tiny(parity),
        parity,
        settings(log_every=5),
        folder=tmp_path,
        on_metrics=lambda step, values: steps.append(step) if "loss" in values else None,
    )
    assert steps == [5, 10]


def test_scores_are_the_shares_of_right_answers_however_they_are_cut(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    model, where = tiny(parity), numerics(settings())
    right = total = 0
    for batch in parity.evaluation("val_12"):
        with torch.no_grad():
            answers = model(batch.inputs).argmax(-1)
        right += int((answers == batch.targets).sum())
        total += batch.targets.numel()
    for largest in (1000, 128, 50, 7):
        found = evaluate(model, parity, ("val_12",), where, largest)
        assert found == {"val_accuracy_12": right / total}
    assert model.training, "it was training before"


def test_only_scored_answers_count() -> None:
    what = task("mqar", pairs=2, length=10, vocab=16, asks=1)
    batch = what.train_batch(0, 5, 0)
    logits = torch.nn.functional.one_hot(batch.targets.clamp(min=0), 16).float()
    assert int(batch.mask.sum()) == 10 and int(what.score(logits, batch)) == 10
    logits[0] = 0
    assert int(what.score(logits, batch)) == 8
