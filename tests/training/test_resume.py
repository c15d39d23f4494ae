"""A training that was broken off and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training.checkpoint import MODEL, latest
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.result import CHECKPOINTS, TrainResult
from hybridlab.training.spec import TrainSpec
from hybridlab.training.weights import read_tensors
from tests.training.conftest import Noisy, Tiny, after

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
Settings = Callable[..., TrainSpec]
DESIGNS = {
    "lstm": ["use: lstm"],
    "gru": ["use: gru"],
    "moe": ["use: attention, heads: 2", "use: moe, experts: 3, top_k: 1"],
    "biased": ["use: moe, experts: 3, top_k: 1, routing: sigmoid, bias_step: 0.05"],
    "mamba2": ["use: mamba2, state: 4, heads: 2", "use: swiglu"],
    "noisy": ["use: lstm"],
}


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9: nothing after it runs."""


def _model(tiny: Tiny, what: Task, design: str) -> nn.Module:
    model = tiny(what, *DESIGNS[design])
    return Noisy(model) if design == "noisy" else model


def _broken(model: nn.Module, what: Task, spec: TrainSpec, folder: Path, step: int) -> None:
    """Train until ``step`` updates are made, then die without a word."""

    def die(done: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        train(model, what, spec, folder=folder, on_step=die, resume=True)


@pytest.mark.parametrize("design", sorted(DESIGNS))
def test_killed_at_random_steps_and_resumed_bit_by_bit(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, design: str
) -> None:
    spec = settings(steps=20, checkpoint_every=4, eval_every=5)
    wanted = train(_model(tiny, parity, design), parity, spec, folder=tmp_path / "whole")
    kills = sorted(random.Random(design).sample(range(1, 20), 3))
    for kill in kills:
        torch.manual_seed(kill)  # whatever another process would have drawn
        _broken(_model(tiny, parity, design), parity, spec, tmp_path / "broken", kill)
    restored: list[int] = []
    found = train(
        _model(tiny, parity, design),
        parity,
        spec,
        folder=tmp_path / "broken",
        on_restored=restored.append,
        resume=True,
    )
    assert restored == [(kills[-1] - 1) // 4 * 4], "the kill came before that step's checkpoint"
    _same(wanted, found)


def _same(wanted: TrainResult, found: TrainResult) -> None:
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.metrics == wanted.metrics
    assert found.best == wanted.best
    assert (found.steps, found.stop_reason) == (wanted.steps, wanted.stop_reason)


@pytest.mark.parametrize("wish", ["cancel", "interrupt"])
def test_stopped_on_request_and_resumed(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, wish: str
) -> None:
    spec = settings()
    wanted = train(tiny(parity), parity, spec, folder=tmp_path / "whole")
    for stop in (3, 2, 5):  # steps of each attempt
        train(
            tiny(parity),
            parity,
            spec,
            folder=tmp_path / "broken",
            resume=True,
            **after(stop, wish),
        )
    found = latest(tmp_path / "broken" / CHECKPOINTS)
    assert found is not None and found.step == 10
    seconds = found.content["progress"]["seconds"]
    result = train(tiny(parity), parity, spec, folder=tmp_path / "broken", resume=True)
    _same(wanted, result)
    assert result.seconds > seconds > 0, "earlier attempts count"


@pytest.mark.parametrize("forwards", [1, 2, 3])
def test_stopped_in_the_middle_of_a_validation_it_is_made_up_for(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, forwards: int
) -> None:
    spec = settings(batch=16, accumulation=16)  # so that a validation takes many forwards
    told: list[tuple[int, str]] = []
    wanted = train(tiny(parity), parity, spec, folder=tmp_path / "whole")
    made: list[int] = []
    asked = [0]

    def wish() -> str | None:
        asked[0] += len(made) == 5  # once before the validation of step 5 was begun, then inside it
        return "interrupt" if asked[0] == forwards + 1 else None

    first = train(
        tiny(parity), parity, spec, folder=tmp_path / "b", on_step=made.append, should_stop=wish
    )
    assert (first.state, first.steps, first.metrics) == ("interrupted", 5, {})
    result = train(
        tiny(parity),
        parity,
        spec,
        folder=tmp_path / "b",
        on_metrics=lambda step, metrics: told.extend((step, name) for name in metrics),
        resume=True,
    )
    _same(wanted, result)
    assert told[0] == (5, "val_accuracy")
    best = [read_tensors(tmp_path / one / "best.safetensors") for one in ("whole", "b")]
    assert all(torch.equal(one, best[1][name]) for name, one in best[0].items())


def test_stopped_while_the_test_splits_are_scored_it_goes_on_with_them(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = settings()
    wanted = train(tiny(parity), parity, spec, folder=tmp_path / "whole")
    testing: list[str] = []
    evaluation = parity.evaluation

    def noted(split: str):  # type: ignore[no-untyped-def]
        testing.append(split)
        yield from evaluation(split)

    monkeypatch.setattr(parity, "evaluation", noted)
    first = train(
        tiny(parity),
        parity,
        spec,
        folder=tmp_path / "b",
        should_stop=lambda: "interrupt" if any(one.startswith("test") for one in testing) else None,
    )
    assert first.state == "interrupted"
    assert not (tmp_path / "b" / "weights.safetensors").exists()
    _same(wanted, train(tiny(parity), parity, spec, folder=tmp_path / "b", resume=True))


def test_metrics_after_the_resume_are_those_of_the_whole_run(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    def curve(points: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
        return [point for point in points if point[1] != "samples_per_s"]

    def note(points: list[tuple[int, str, float]]) -> Callable[[int, dict[str, float]], None]:
        return lambda step, values: points.extend(
            (step, name, value) for name, value in values.items()
        )

    whole: list[tuple[int, str, float]] = []
    late: list[tuple[int, str, float]] = []
    spec = settings(steps=11, checkpoint_every=3)
    train(tiny(parity), parity, spec, folder=tmp_path / "a", on_metrics=note(whole))
    _broken(tiny(parity), parity, spec, tmp_path / "b", 8)
    train(tiny(parity), parity, spec, folder=tmp_path / "b", on_metrics=note(late), resume=True)
    assert curve(late) == [point for point in curve(whole) if point[0] > 6]


@pytest.mark.parametrize("end", [{"patience": 1, "learning_rate": 1e-12}, {"target": 0.1}])
def test_stopping_early_is_remembered_through_a_resume(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task, end: dict[str, float]
) -> None:
    spec = settings(steps=40, eval_every=4, checkpoint_every=3, **end)
    wanted = train(tiny(parity), parity, spec, folder=tmp_path / "whole")
    assert wanted.stop_reason in end
    _broken(tiny(parity), parity, spec, tmp_path / "broken", wanted.steps - 1)
    _same(wanted, train(tiny(parity), parity, spec, folder=tmp_path / "broken", resume=True))
    steps: list[int] = []
    again = train(
        tiny(parity), parity, spec, folder=tmp_path / "broken", on_step=steps.append, resume=True
    )
    assert not steps, "a training that has ended is not continued"
    _same(wanted, again)


def test_without_resume_a_folder_with_checkpoints_is_started_over(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    wanted = train(tiny(parity), parity, settings(), folder=tmp_path)
    steps: list[int] = []
    again = train(tiny(parity), parity, settings(), folder=tmp_path, on_step=steps.append)
    assert steps == list(range(1, 13))
    assert again.weights_sha256 == wanted.weights_sha256


def test_resume_in_an_empty_folder_starts_at_the_beginning(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    restored: list[int] = []
    result = train(
        tiny(parity), parity, settings(), folder=tmp_path, on_restored=restored.append, resume=True
    )
    assert result.steps == 12 and restored == [0]


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(steps=14, checkpoint_every=4)
    wanted = train(tiny(parity), parity, spec, folder=tmp_path / "whole")
    _broken(tiny(parity), parity, spec, tmp_path / "broken", 9)
    newest = tmp_path / "broken" / CHECKPOINTS / "step-00000008" / MODEL
    newest.write_bytes(newest.read_bytes()[:-7])
    restored: list[int] = []
    found = train(
        tiny(parity),
        parity,
        spec,
        folder=tmp_path / "broken",
        on_restored=restored.append,
        resume=True,
    )
    assert restored == [4]
    _same(wanted, found)


def test_a_checkpoint_of_another_architecture_is_refused(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    train(tiny(parity), parity, settings(), folder=tmp_path)
    for other in (tiny(parity, width=16), tiny(parity, "use: gru")):
        with pytest.raises(RunError, match="another architecture"):
            train(other, parity, settings(), folder=tmp_path, resume=True)


def test_accumulation_and_bfloat16_resume_too(
    tiny: Tiny, settings: Settings, tmp_path: Path
) -> None:
    what = task("mqar", pairs=2, length=8, vocab=16)
    spec = settings(
        task="mqar",
        task_params={"pairs": 2, "length": 8, "vocab": 16},
        accumulation=4,
        precision="bfloat16",
    )
    nodes = ["use: attention, heads: 2", "use: swiglu"]
    wanted = train(tiny(what, *nodes), what, spec, folder=tmp_path / "whole")
    _broken(tiny(what, *nodes), what, spec, tmp_path / "broken", 7)
    _same(wanted, train(tiny(what, *nodes), what, spec, folder=tmp_path / "broken", resume=True))


def test_a_checkpoint_of_the_first_release_is_still_continued(tmp_path: Path) -> None:
    """If this fails, old runs can no longer be resumed: read the old format too rather than replace the files."""
    shutil.copytree(GOLDEN, tmp_path / CHECKPOINTS)
    settings = {
        "task": "parity",
        "task_params": {"length": 6, "longer": 9},
        "steps": 8,
        "batch": 4,
        "eval_every": 3,
        "seed": 5,
        "device": "cpu",
    }
    what, spec = prepare(settings)
    text = "name: old\nwidth: 4\nnodes:\n  - {use: lstm}\n  - {use: moe, experts: 2, top_k: 1}\n"
    model = build(fit(loads(text), what), what.input_type(), seed=0)
    steps: list[int] = []
    result = train(model, what, spec, folder=tmp_path, on_step=steps.append, resume=True)
    assert steps == [5, 6, 7, 8] and result.steps == 8
    old = latest(GOLDEN)
    assert old is not None and old.content["progress"]["best_step"] == 3
    before = old.model()
    for name, now in model.state_dict().items():
        assert 0 < (now - before[name]).abs().max() < 0.2, (
            f"{name} was not taken over, or not trained on"
        )
