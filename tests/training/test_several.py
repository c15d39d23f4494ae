"""Several tasks on one trunk: gradients are those of the equations, resuming is bit by bit, each task is scored."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.tasks.base import stream
from hybridlab.tasks.several import SeveralBatch, SeveralTasks
from hybridlab.training.balancing import pcgrad
from hybridlab.training.evaluation import evaluate
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.rate_finder import find_rate
from hybridlab.training.result import TrainResult
from hybridlab.training.task_cosines import WHOLE, cosines_of
from hybridlab.training.weights import weights_sha256
from tests.training.several_made import IMAGE, MOE, NODES, goal_of, several


def _by_hand(model: GraphModel, what: SeveralTasks, batch: SeveralBatch) -> list[list[Tensor]]:
    """Return each task's gradient at every weight, from a model that is run once for each task."""
    found = []
    for place, part in enumerate(what.parts):
        head = dict(model.slots())[f"head_{part.name}"]
        given: list[Tensor] = []
        handle = head.register_forward_hook(lambda m, x, y, given=given: given.append(y))
        model(dict(batch.of)[place].inputs)
        handle.remove()
        loss = part.task.loss(given[0], dict(batch.of)[place])
        weights = list(model.parameters())
        got = torch.autograd.grad(loss, weights, allow_unused=True)
        found.append(
            [torch.zeros_like(w) if g is None else g for w, g in zip(weights, got, strict=True)]
        )
    return found


def _gradients(model: GraphModel) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def _flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("sampling", ["joint", "each"])
def test_fixed_weights_give_the_weighted_sum_of_the_tasks_own_gradients(
    sampling: str, parts: int
) -> None:
    of = [
        {"task": "digits_image", "weight": 2.0},
        {"task": "digits_parity", "task_params": IMAGE},
        {"task": "digits_strokes", "task_params": IMAGE, "weight": 0.5},
    ]
    model, what, spec = several(tasks={"of": of, "sampling": sampling}, batch=9)
    batch = what.train_batch(3, 9, 0)
    one, two, three = _by_hand(model, what, batch)
    loss = goal_of(model, what, spec).add_gradients(batch, parts)
    wanted = 2 * _flat(one) + _flat(two) + 0.5 * _flat(three)
    torch.testing.assert_close(_flat(_gradients(model)), wanted, rtol=1e-4, atol=1e-6)
    assert loss.isfinite()


@pytest.mark.parametrize("parts", [1, 2])
def test_pcgrad_projects_what_is_shared_and_leaves_heads_alone(parts: int) -> None:
    model, what, spec = several(tasks={"balancing": "pcgrad"})
    batch = what.train_batch(3, 6, 0)
    every = _by_hand(model, what, batch)
    goal = goal_of(model, what, spec)
    names = [name for name, _ in model.named_parameters()]
    shared = [place for place, name in enumerate(names) if "head_" not in name]
    flat = torch.stack([_flat([task[place] for place in shared]) for task in every]).double()
    drawn = stream("several", "pcgrad", 0, 3)
    orders = [drawn.permutation(3).tolist() for _ in range(3)]
    wanted = pcgrad(flat @ flat.T, orders) @ flat
    goal.add_gradients(batch, parts)
    found = _gradients(model)
    torch.testing.assert_close(
        _flat([found[place] for place in shared]).double(), wanted, rtol=1e-4, atol=1e-6
    )
    heads = [place for place in range(len(names)) if place not in shared]
    sums = [sum(task[place] for task in every) for place in heads]
    torch.testing.assert_close(_flat([found[p] for p in heads]), _flat(sums), rtol=1e-4, atol=1e-6)


def test_uncertainty_learns_its_variances_and_divides_by_them() -> None:
    model, what, spec = several(tasks={"balancing": "uncertainty"})
    goal = goal_of(model, what, spec)
    assert goal.own.log_variances is not None
    with torch.no_grad():
        goal.own.log_variances.copy_(torch.tensor([0.5, -1.0, 0.0]))
    batch = what.train_batch(0, 6, 0)
    every = _by_hand(model, what, batch)
    for parts in (1, 3):
        model.zero_grad()
        goal.own.zero_grad()
        goal.add_gradients(batch, parts)
        factors = torch.exp(-goal.own.log_variances.detach())
        wanted = sum(f * _flat(task) for f, task in zip(factors, every, strict=True))
        torch.testing.assert_close(_flat(_gradients(model)), wanted, rtol=1e-4, atol=1e-6)
        losses = torch.tensor([goal.told()[f"task_loss/{part.name}"] for part in what.parts])
        gradient = goal.own.log_variances.grad
        assert gradient is not None
        torch.testing.assert_close(gradient, 0.5 - factors * losses, rtol=1e-4, atol=1e-6)


def test_gradnorm_and_dwa_follow_the_losses(tmp_path: Path) -> None:
    for balancing in ("gradnorm", "dwa"):
        model, what, spec = several(
            tasks={"balancing": balancing, "dwa_every": 2, "gradnorm_rate": 0.1}
        )
        seen: dict[int, list[float]] = {}

        def note(step: int, values: dict[str, float], seen: dict[int, list[float]] = seen) -> None:
            found = [value for name, value in values.items() if name.startswith("task_weight/")]
            if found:
                seen[step] = found

        train(model, what, spec, folder=tmp_path / balancing, on_metrics=note)
        assert seen[1] == [1.0, 1.0, 1.0]
        assert seen[12] != [1.0, 1.0, 1.0]
        assert all(sum(weights) == pytest.approx(3, abs=1e-4) for weights in seen.values())
        if balancing == "dwa":
            assert seen[4] == [1.0, 1.0, 1.0] != seen[5], "it needs two spans of two steps"


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9: nothing after it runs."""


WAYS = [
    ("joint", "fixed"),
    ("joint", "uncertainty"),
    ("joint", "gradnorm"),
    ("each", "dwa"),
    ("each", "pcgrad"),
    ("joint", "cagrad"),
    ("proportional", "uncertainty"),
    ("temperature", "fixed"),
    ("round_robin", "dwa"),
]


@pytest.mark.parametrize(("sampling", "balancing"), WAYS)
def test_killed_and_resumed_bit_by_bit(tmp_path: Path, sampling: str, balancing: str) -> None:
    tasks = {"sampling": sampling, "balancing": balancing, "cosines_every": 2, "dwa_every": 3}

    def go(folder: str, kill: int = 0) -> tuple[TrainResult, list[tuple[int, str, float]]]:
        points: list[tuple[int, str, float]] = []

        def note(step: int, values: dict[str, float]) -> None:
            points.extend((step, n, v) for n, v in values.items() if n != "samples_per_s")

        def die(done: int) -> None:
            if done == kill:
                raise Killed

        model, what, spec = several(*MOE, tasks=tasks)
        torch.manual_seed(kill)
        made = train(
            model, what, spec, folder=tmp_path / folder, on_metrics=note, on_step=die, resume=True
        )
        return made, points

    wanted, whole = go("whole")
    for kill in sorted(random.Random(sampling + balancing).sample(range(1, 12), 1)):
        with pytest.raises(Killed):
            go("broken", kill)
    found, late = go("broken")
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.metrics == wanted.metrics and found.best == wanted.best
    begun = min(step for step, _, _ in late)
    assert late == [point for point in whole if point[0] >= begun]
    assert any(name.startswith("gradient_cosine/") for _, name, _ in whole)


def test_measuring_cosines_changes_nothing(tmp_path: Path) -> None:
    hashes = set()
    for every in (0, 2):
        for sampling in ("joint", "round_robin"):
            model, what, spec = several(*MOE, tasks={"cosines_every": every, "sampling": sampling})
            result = train(model, what, spec, folder=tmp_path / f"{every}{sampling}")
            hashes.add((sampling, result.weights_sha256))
    assert len(hashes) == 2, "one for each way of sampling"


def test_cosines_are_those_of_the_gradients_by_component() -> None:
    model, what, spec = several(tasks={"cosines_every": 4})
    goal = goal_of(model, what, spec)
    batch = what.train_batch(3, 6, 0)
    every = _by_hand(model, what, batch)
    goal.add_gradients(batch)
    told = goal.told()
    names = [name for name, _ in model.named_parameters()]

    def cosine(prefix: str, one: int, other: int) -> float:
        held = [i for i, n in enumerate(names) if n.startswith(prefix) and "head_" not in n]
        a, b = (_flat([every[task][i] for i in held]) for task in (one, other))
        return float(a @ b / a.norm() / b.norm())

    pair = "digits_image~digits_parity"
    assert told[f"gradient_cosine/swiglu/{pair}"] == pytest.approx(
        cosine("root.swiglu", 0, 1), abs=1e-4
    )
    assert told[f"gradient_cosine/*/{pair}"] == pytest.approx(cosine("root.", 0, 1), abs=1e-4)
    assert not any("head_" in name for name in told if name.startswith("gradient_cosine"))
    read = cosines_of(
        [part.name for part in what.parts], {name: ([4], [v]) for name, v in told.items()}
    )
    matrix = read.matrix(WHOLE, 4)
    assert matrix[0][0] == 1.0 and matrix[0][1] == matrix[1][0] == told[f"gradient_cosine/*/{pair}"]
    goal.add_gradients(what.train_batch(4, 6, 0))
    assert not any(name.startswith("gradient_cosine") for name in goal.told())


def test_each_task_is_scored_at_its_own_head(tmp_path: Path) -> None:
    model, what, spec = several()
    result = train(model, what, spec, folder=tmp_path)
    metrics = result.metrics
    singles = [metrics[f"test_accuracy_{part.name}"] for part in what.parts]
    assert metrics["test_accuracy_mean"] == pytest.approx(sum(singles) / 3)
    assert metrics["test_accuracy"] == metrics["test_accuracy_digits_image"]
    assert result.best["value"] <= 1 and what.metric == "test_accuracy_mean"
    alone = evaluate(model, what.first, ["test"], numerics(spec), 64)
    assert alone == {"test_accuracy": metrics["test_accuracy"]}, "the model's output is the first's"


def test_all_three_questions_are_learnt_together(tmp_path: Path) -> None:
    model, what, spec = several(
        tasks={"balancing": "pcgrad"}, steps=150, batch=64, eval_every=150, checkpoint_every=150
    )
    result = train(model, what, spec, folder=tmp_path)
    base = what.baselines()
    for part in what.parts:
        common = base[f"{part.name}: majority class"]
        assert result.metrics[f"test_accuracy_{part.name}"] > common + 0.1, part.name


@pytest.mark.parametrize("sampling", ["joint", "round_robin"])
def test_a_rate_is_found_for_several_tasks(sampling: str) -> None:
    model, what, spec = several(tasks={"sampling": sampling})
    before = weights_sha256(model)
    found = find_rate(model, what, spec, steps=20)
    assert len(found.losses) > 3 and weights_sha256(model) == before


def test_a_step_in_half_precision_has_finite_gradients_of_all_tasks() -> None:
    for balancing in ("pcgrad", "gradnorm"):
        model, what, spec = several(tasks={"balancing": balancing}, precision="bfloat16")
        loss = goal_of(model, what, spec).add_gradients(what.train_batch(0, 6, 0))
        assert loss.isfinite() and loss.dtype is torch.float32
        assert all(gradient.isfinite().all() for gradient in _gradients(model))


def test_gradients_of_a_frozen_trunk_and_of_exits_are_no_obstacle(tmp_path: Path) -> None:
    model, what, spec = several(
        tasks={"balancing": "pcgrad", "cosines_every": 2},
        groups=[{"name": "all", "match": "swiglu|attention|patch_embedding", "frozen": True}],
    )
    assert train(model, what, spec, folder=tmp_path / "frozen").steps == 12
    nodes = [NODES[0], "use: early_exit, outputs: 10", NODES[1]]
    model, what, spec = several(*nodes, tasks={"balancing": "cagrad"})
    assert train(model, what, spec, folder=tmp_path / "exits").steps == 12
