"""Learning from a teacher: what counts when, who is changed, and that a break in any phase changes no bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import RunError
from hybridlab.runs.home import run_folder
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task
from hybridlab.training import memory, teacher_cache
from hybridlab.training.checkpoint import OWN, latest
from hybridlab.training.distillation import Distillation, copy_alike
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.result import CHECKPOINTS, TrainResult
from hybridlab.training.spec import TrainSpec
from hybridlab.training.stage_spec import stage_names
from hybridlab.training.teacher_losses import hidden_loss, logits_loss, matrix_loss
from hybridlab.training.weights import weights_sha256
from tests.training.conftest import Finished, Tiny

Settings = Callable[..., TrainSpec]
ATTENTION = ("use: attention, heads: 2", "use: attention, heads: 2")
SSM = ("use: mamba2, heads: 2, state: 4",)
STAGES = [
    {"losses": ["matrices"], "steps": 4},
    {"losses": ["hidden"], "steps": 4},
    {"losses": ["logits", "hard"]},
]


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9: nothing after it runs."""


@pytest.fixture
def digits() -> Task:
    return task("digits_sequence")


def _spec(settings: Settings, what: Task, **teacher: Any) -> TrainSpec:
    return settings(task=what.name, task_params=what.params.model_dump(), teacher=teacher)


def _objective(model: GraphModel, what: Task, spec: TrainSpec, folder: Path) -> Distillation:
    return Distillation(model, what, spec, numerics(spec), folder)


def test_all_losses_together_are_their_weighted_sum(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    run = finished(parity, *ATTENTION, width=12)
    student = tiny(parity, *SSM).train()
    spec = _spec(
        settings,
        parity,
        run=run,
        hard=0.3,
        logits={"weight": 2.0, "temperature": 3.0},
        hidden={"weight": 0.7},
        matrices={"weight": 0.2},
    )
    objective = _objective(student, parity, spec, tmp_path)
    (pair,) = objective.pairs
    assert (pair.teacher.path, pair.widths, pair.matrices) == ("attention_2", (12, 8), True)
    batch = parity.train_batch(0, 6, 0)
    hard, total = objective.loss_of(batch)

    states: dict[str, torch.Tensor] = {}
    for name, slot in (("teacher", pair.teacher), ("student", pair.student)):
        slot.register_forward_hook(lambda m, i, o, name=name: states.update({name: o}))
        slot.body.register_forward_pre_hook(
            lambda m, i, name=name: states.update({name + "x": i[0]})
        )
    with torch.no_grad():
        wanted = objective.teacher(batch.inputs)
    given = student(batch.inputs)
    assert isinstance(objective.own, nn.ModuleDict)
    projected = F.linear(states["student"], objective.own["0"].weight)  # type: ignore[arg-type]
    by_hand = (
        0.3 * parity.loss(given, batch)
        + 2.0 * logits_loss(given, wanted, batch.mask, 3.0)
        + 0.7 * hidden_loss(projected, states["teacher"])
        + 0.2
        * matrix_loss(
            pair.student.body.mixing_matrix(states["studentx"]),  # type: ignore[arg-type]
            pair.teacher.body.mixing_matrix(states["teacherx"]),  # type: ignore[arg-type]
        )
    )
    torch.testing.assert_close(total, by_hand)
    torch.testing.assert_close(hard, parity.loss(given, batch))


def test_fed_by_the_teacher_components_read_what_its_components_read(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    run = finished(parity, *ATTENTION)
    student = tiny(parity, *SSM)
    spec = _spec(settings, parity, run=run, logits=None, hidden={}, hard=0, feed="teacher")
    objective = _objective(student, parity, spec, tmp_path)
    (pair,) = objective.pairs
    assert objective.own is None, "equal widths need no map"
    came: list[torch.Tensor] = []
    pair.teacher.register_forward_pre_hook(lambda m, i: came.append(i[0]))
    gone: list[torch.Tensor] = []
    pair.teacher.register_forward_hook(lambda m, i, o: gone.append(o))
    batch = parity.train_batch(0, 6, 0)
    _, total = objective.loss_of(batch)
    torch.testing.assert_close(total, hidden_loss(pair.student(came[0]), gone[0]))
    total.backward()
    assert all(p.grad is not None for p in pair.student.parameters())
    others = {id(p) for p in student.parameters()} - {id(p) for p in pair.student.parameters()}
    assert all(p.grad is None for p in student.parameters() if id(p) in others)


def test_the_teacher_teaches_and_stays_as_it_was(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    run = finished(parity, *ATTENTION, steps=5)
    student = tiny(parity, *SSM, width=16)
    spec = _spec(settings, parity, run=run, hard=0, hidden={"weight": 0.1}).model_copy(
        update={"steps": 40}
    )
    points: dict[str, list[float]] = {}

    def note(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            points.setdefault(name, []).append(value)

    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in student.modules()]
    train(student, parity, spec, folder=tmp_path, on_metrics=note)
    assert sum(points["distill_logits"][-5:]) < 0.5 * sum(points["distill_logits"][:5])
    assert len(points["distill_hidden"]) == 40 and "distill_phase" not in points
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in student.modules()]
    assert after == hooks, "nothing is left in the student"
    found = latest(tmp_path / CHECKPOINTS)
    assert found is not None
    assert [name for name in found.model() if name.startswith(OWN)] == [f"{OWN}0.weight"]
    objective = _objective(student, parity, spec, tmp_path)
    before = weights_sha256(objective.teacher)
    objective.add_gradients(parity.train_batch(0, 6, 0))
    assert weights_sha256(objective.teacher) == before == objective.digest
    assert not any(p.requires_grad or p.grad is not None for p in objective.teacher.parameters())
    assert not objective.teacher.training


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("parity", (3,)),
        ("parity", (6,)),
        ("parity", (11,)),
        ("digits_sequence", (2, 5, 7, 10)),
    ],
)
def test_killed_in_any_phase_and_resumed_bit_by_bit(
    tiny: Tiny,
    settings: Settings,
    finished: Finished,
    tmp_path: Path,
    name: str,
    kills: tuple[int, ...],
) -> None:
    what = task(name, **({"length": 8, "longer": 12} if name == "parity" else {}))
    run = finished(what, *ATTENTION, width=12)
    spec = _spec(settings, what, run=run, hidden={}, matrices={}, phases=STAGES)
    spec = spec.model_copy(update={"checkpoint_every": 3, "batch": 64 if name != "parity" else 6})
    whole: dict[tuple[int, str], float] = {}
    late: dict[tuple[int, str], float] = {}
    wanted = train(
        tiny(what, *SSM), what, spec, folder=tmp_path / "whole", on_metrics=_noting(whole)
    )
    for kill in kills:
        torch.manual_seed(kill)  # whatever another process would have drawn

        def die(done: int, kill: int = kill) -> None:
            if done == kill:
                raise Killed

        with pytest.raises(Killed):
            train(
                tiny(what, *SSM), what, spec, folder=tmp_path / "broken", on_step=die, resume=True
            )
    if name == "digits_sequence":  # half of what was kept is lost too, and one file was torn
        kept = sorted((tmp_path / "broken" / teacher_cache.FOLDER).rglob("*.safetensors"))
        assert kept
        kept[0].write_bytes(kept[0].read_bytes()[:-9])
        for path in kept[1::2]:
            path.unlink()
    found = train(
        tiny(what, *SSM),
        what,
        spec,
        folder=tmp_path / "broken",
        on_metrics=_noting(late),
        resume=True,
    )
    _same(wanted, found)
    assert late == {place: value for place, value in whole.items() if place in late}
    assert {whole[step, "distill_phase"] for step in (1, 5, 9)} == {1.0, 2.0, 3.0}
    borders = {step: value for (step, metric), value in whole.items() if metric == "stage"}
    assert borders == dict(zip(spec.teacher.begins()[1:], (1.0, 2.0), strict=True))
    assert stage_names(spec.model_dump()) == [
        "mixing matrices",
        "hidden states",
        "answers + the task",
    ]


def _noting(points: dict[tuple[int, str], float]) -> Callable[[int, dict[str, float]], None]:
    def note(step: int, values: dict[str, float]) -> None:
        points.update(
            {(step, name): value for name, value in values.items() if name != "samples_per_s"}
        )

    return note


def _same(wanted: TrainResult, found: TrainResult) -> None:
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.metrics == wanted.metrics
    assert found.best == wanted.best


def test_another_teacher_does_not_go_on_where_one_stopped(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    first, second = (finished(parity, *ATTENTION, seed=seed) for seed in (0, 1))
    spec = _spec(settings, parity, run=first)
    train(tiny(parity), parity, spec, folder=tmp_path)
    run_folder(second).joinpath("weights.safetensors").replace(
        run_folder(first) / "weights.safetensors"
    )
    with pytest.raises(RunError, match="not those that taught"):
        train(tiny(parity), parity, spec, folder=tmp_path, resume=True)


def test_memory_is_foreseen_with_the_teacher(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    run = finished(parity, *ATTENTION, width=64)
    student = tiny(parity)
    spec = _spec(settings, parity, run=run, matrices=None, hidden={"weight": 1})
    where = numerics(spec)
    alone = memory.bytes_per_sample(student, parity, where, 0)
    objective = _objective(student, parity, spec, tmp_path)
    taught = memory.bytes_per_sample(student, parity, where, 0, objective)
    hidden = 8 * 64 * 4  # L x D x float32
    assert taught >= alone + 2 * hidden
    assert objective.bytes_beside(parity.train_batch(0, 2, 0)) >= 2 * 2 * hidden
    assert objective.step == 0


def test_components_of_both_start_with_the_teachers_weights(tiny: Tiny, parity: Task) -> None:
    teacher = tiny(parity, "id: a, use: attention, heads: 2", "use: swiglu", seed=1)
    student = tiny(parity, "id: a, use: mamba2, heads: 2, state: 4", "use: swiglu", seed=2)
    taken = copy_alike(teacher, student)
    assert "swiglu" in taken and "a" not in taken
    theirs, own = dict(teacher.slots()), dict(student.slots())
    for path in taken:
        for name, tensor in theirs[path].state_dict().items():
            assert torch.equal(own[path].state_dict()[name], tensor)


def test_parts_and_bfloat16_are_taught_too(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    spec = _spec(
        settings,
        parity,
        run=finished(parity, *ATTENTION),
        feed="teacher",
        copy_weights=True,
        hidden={},
        matrices={},
        phases=STAGES,
    ).model_copy(update={"accumulation": 3, "precision": "bfloat16"})
    wanted = train(tiny(parity, *SSM), parity, spec, folder=tmp_path / "whole")

    def die(done: int) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        train(tiny(parity, *SSM), parity, spec, folder=tmp_path / "broken", on_step=die)
    found = train(tiny(parity, *SSM), parity, spec, folder=tmp_path / "broken", resume=True)
    _same(wanted, found)
