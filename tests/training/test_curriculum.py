"""Stages: when each ends, what it changes, and that a training broken off in any of them ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import DeviceError, SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training import memory
from hybridlab.training.checkpoint import latest
from hybridlab.training.loop import BEST, CHECKPOINTS, WEIGHTS, train
from hybridlab.training.result import TrainResult
from hybridlab.training.spec import TrainSpec, make
from hybridlab.training.weights import load_weights, read_tensors

HARD = {"pairs": 4, "length": 16, "vocab": 16}
DESIGN = """
name: hybrid
width: 8
nodes:
  - id: stage
    repeat: 1
    nodes:
      - {use: attention, heads: 2}
      - {use: moe, experts: 3, top_k: 1}
  - {id: a, use: attention, heads: 2}
  - {id: s, use: mamba2, heads: 2, state: 4, inputs: [stage]}
  - {id: join, use: gated_sum, inputs: [a, s]}
"""
EASY = {"name": "easy", "until": 4, "task_params": {"pairs": 1, "length": 8}}
WAYS: dict[str, list[dict[str, Any]]] = {
    "task": [EASY, {"name": "middle", "until": 4, "task_params": {"pairs": 2}}, {"name": "hard"}],
    "competence": [
        {**EASY, "until": {"steps": 7, "train_loss": 2.7, "train_accuracy": 0.0, "window": 3}},
        {"name": "middle", "until": {"steps": 5, "metric": 0.0, "metric_of": "stage"}},
        {"name": "hard"},
    ],
    "growth": [
        {"name": "small", "until": 4},
        {"name": "larger", "until": 4, "grow": {"stage": 1}},
        {"name": "large", "grow": {"stage": 2}, "new_repeats": "drawn"},
    ],
    "frozen": [
        {"name": "a", "until": 4, "freeze": "stage.*"},
        {"name": "b", "until": 4, "unfreeze": "stage.*", "freeze": "s", "grow": {"stage": 1}},
        {"name": "c", "unfreeze": "s"},
    ],
    "gates": [
        {"name": "a", "until": 5, "experts": 1},
        {"name": "b", "until": 4, "open": {"s": 6}, "experts": 2},
        {"name": "c", "open": {"stage.attention": 30}},
    ],
}
GROUPS: dict[str, tuple[dict[str, Any], ...]] = {
    "adamw": (),
    "muon": ({"name": "m", "kind": "token_mixer", "optimiser": "muon"},),
    "free": ({"name": "f", "optimiser": "schedule_free"},),
}


@pytest.fixture
def mqar() -> Task:
    return task("mqar", **HARD)


def _spec(stages: list[dict[str, Any]], **changes: Any) -> TrainSpec:
    base = {
        "task": "mqar",
        "task_params": HARD,
        "steps": 14,
        "batch": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "eval_every": 2,
        "checkpoint_every": 3,
        "device": "cpu",
        "stages": stages,
    }
    return make(changes, base)


def _model(what: Task, text: str = DESIGN) -> GraphModel:
    return build(fit(loads(text), what), what.input_type(), seed=0)


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9: nothing after it runs."""


def _train(
    what: Task, spec: TrainSpec, folder: Path, die_after: int = 0, **more: Any
) -> tuple[TrainResult | None, list[tuple[int, str, float]], GraphModel]:
    points: list[tuple[int, str, float]] = []
    model = _model(what)

    def stepped(step: int) -> None:
        if step == die_after:
            raise Killed

    def note(step: int, values: dict[str, float]) -> None:
        points.extend((step, name, value) for name, value in values.items())

    try:
        result = train(
            model, what, spec, folder=folder, on_metrics=note, on_step=stepped, **more
        )
    except Killed:
        return None, points, model
    return result, [point for point in points if point[1] != "samples_per_s"], model


def _borders(points: list[tuple[int, str, float]]) -> list[tuple[int, float]]:
    return [(step, value) for step, name, value in points if name == "stage"]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_killed_in_the_middle_of_every_stage_and_resumed_bit_by_bit(
    way: str, tmp_path: Path, mqar: Task
) -> None:
    spec = _spec(WAYS[way])
    wanted, points, _ = _train(mqar, spec, tmp_path / "whole")
    borders = _borders(points)
    assert [place for _, place in borders] == [1.0, 2.0], "both borders were passed"
    began = [0, *(step for step, _ in borders), spec.steps]
    kills = [(low + high + 1) // 2 for low, high in zip(began, began[1:], strict=False)]
    for kill in kills:
        torch.manual_seed(kill)
        _train(mqar, spec, tmp_path / "broken", die_after=kill, resume=True)
    restored: list[int] = []
    found, late, _ = _train(
        mqar, spec, tmp_path / "broken", resume=True, on_restored=restored.append
    )
    assert wanted is not None and found is not None
    assert restored == [(kills[-1] - 1) // 3 * 3]
    assert found.weights_sha256 == wanted.weights_sha256
    assert (found.metrics, found.best, found.steps) == (wanted.metrics, wanted.best, wanted.steps)
    assert late == [point for point in points if point[0] > restored[0]]


@pytest.mark.parametrize("how", sorted(GROUPS))
def test_growth_resumes_with_every_optimiser(how: str, tmp_path: Path, mqar: Task) -> None:
    spec = _spec(WAYS["growth"], groups=GROUPS[how], checkpoint_every=4)
    wanted, _, _ = _train(mqar, spec, tmp_path / "whole")
    for kill in (5, 9, 13):  # just behind checkpoints that were written at the borders
        _train(mqar, spec, tmp_path / "broken", die_after=kill, resume=True)
    found, _, _ = _train(mqar, spec, tmp_path / "broken", resume=True)
    assert wanted is not None and found is not None
    assert found.weights_sha256 == wanted.weights_sha256


def test_checkpoints_say_their_stage(tmp_path: Path, mqar: Task) -> None:
    _train(mqar, _spec(WAYS["growth"]), tmp_path, die_after=8)
    found = latest(tmp_path / CHECKPOINTS)
    assert found is not None and found.step == 6
    assert found.content["curriculum"]["place"] == 1
    assert found.content["curriculum"]["began"] == [0, 4]


def test_without_stages_all_is_as_before(tmp_path: Path, mqar: Task) -> None:
    plain, _, _ = _train(mqar, _spec([]), tmp_path / "a")
    one, points, _ = _train(mqar, _spec([{"name": "only"}]), tmp_path / "b")
    assert plain is not None and one is not None
    assert one.weights_sha256 == plain.weights_sha256 and not _borders(points)


def test_final_and_best_weights_are_of_the_last_stages_model(tmp_path: Path, mqar: Task) -> None:
    result, _, model = _train(mqar, _spec(WAYS["growth"]), tmp_path)
    assert result is not None and result.best["step"] > 8, "earlier models are never the best"
    assert len(model.root.get_submodule("stage").order) == 4
    fresh = build(model.architecture, mqar.input_type(), seed=5)
    for name in (WEIGHTS, BEST):
        load_weights(fresh, read_tensors(tmp_path / name), tmp_path / name)


def test_the_task_gets_harder_and_scores_are_those_of_the_runs_own(
    tmp_path: Path, mqar: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    scored: list[int] = []
    cls = type(mqar)
    real, judged = cls.train_batch, cls.evaluation

    def seen(self: Any, step: int, batch: int, seed: int) -> Any:
        found = real(self, step, batch, seed)
        if batch == 4:  # not those of a look at the memory
            lengths.append(found.inputs.shape[1])
        return found

    def judge(self: Any, split: str) -> Any:
        scored.append(self.length)
        return judged(self, split)

    monkeypatch.setattr(cls, "train_batch", seen)
    monkeypatch.setattr(cls, "evaluation", judge)
    _train(mqar, _spec(WAYS["task"]), tmp_path)
    assert lengths == [8] * 4 + [16] * 10
    assert set(scored) == {16}


def test_moves_on_by_metric_of_the_stage(tmp_path: Path, mqar: Task) -> None:
    stages = [
        {"name": "a", "until": {"steps": 11, "metric": 0.0, "metric_of": "stage"}, **_easy()},
        {"name": "b"},
    ]
    _, points, _ = _train(mqar, _spec(stages, eval_every=3), tmp_path)
    assert _borders(points) == [(3, 1.0)], "at the first validation"
    assert [step for step, name, _ in points if name == "stage_val_accuracy"] == [3]


def test_moves_on_by_competence(tmp_path: Path, mqar: Task) -> None:
    def borders(until: dict[str, Any]) -> list[tuple[int, float]]:
        stages = [{"name": "a", "until": {"steps": 10, "window": 4, **until}}, {"name": "b"}]
        return _borders(_train(mqar, _spec(stages), tmp_path / str(until))[1])

    assert borders({"train_loss": 50.0}) == [(4, 1.0)], "once the window is full"
    assert borders({"train_accuracy": 0.0}) == [(4, 1.0)]
    assert borders({"train_loss": 50.0, "train_accuracy": 1.0}) == [(10, 1.0)], "both must hold"


def test_training_accuracy_is_that_of_the_batches(tmp_path: Path, mqar: Task) -> None:
    """The average over the first window is the plain mean of the batches' own accuracies."""
    stages = [
        {"name": "a", "until": {"steps": 10, "window": 50, "train_accuracy": 1.0}},
        {"name": "b"},
    ]
    spec = _spec(stages, learning_rate=1e-12, accumulation=2)
    _, points, _ = _train(mqar, spec, tmp_path)
    told = {step: value for step, name, value in points if name == "stage_train_accuracy"}
    model, right, answers = _model(mqar).train(), [], []
    for step in range(4):
        batch = mqar.train_batch(step, 4, 0)
        right.append(float(mqar.score(model(batch.inputs), batch)))
        answers.append(float(batch.mask.sum()))
    shares = [one / other for one, other in zip(right, answers, strict=True)]
    assert told[4] == pytest.approx(sum(shares) / 4, abs=1e-6)


def _easy() -> dict[str, Any]:
    return {"task_params": {"pairs": 1, "length": 8}}


def test_frozen_components_stay_and_learn_again(tmp_path: Path, mqar: Task) -> None:
    start = _model(mqar).state_dict()
    spec = _spec(WAYS["frozen"], weight_decay=0.1)
    moved: dict[int, set[str]] = {}
    for kill in (4, 5, 14):
        model = _train(mqar, spec, tmp_path / str(kill), die_after=kill)[2]
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
    spec = _spec(WAYS["gates"])
    seen: list[tuple[float, float, int | None]] = []
    model = _model(mqar)
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
    model = _model(mqar).eval()
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
    join = dict(_model(mqar).slots())["join"].body
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


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "endless": ([{"name": "a"}, {"name": "b"}], "only the last stage has no end"),
    "ended": ([{"name": "a", "until": 3}], "the last stage goes to the end"),
    "twice": ([{"name": "a", "until": 3}, {"name": "a"}], "name of another stage"),
    "long": ([{"name": "a", "until": 14}, {"name": "b"}], "might never begin"),
    "at first": ([{"name": "a", "until": 3, "grow": {"stage": 1}}, {"name": "b"}], "nothing to"),
    "experts": ([{"name": "a", "experts": 2}], "trains all experts"),
    "negative": ([{"name": "a", "until": 0}, {"name": "b"}], "at least 1"),
    "unknown": ([{"name": "a", "colour": 1}], "unknown key"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_settings_that_cannot_be(case: str) -> None:
    stages, said = WRONG[case]
    with pytest.raises(SpecError, match=said):
        _spec(stages)


MISFIT: dict[str, tuple[dict[str, Any], str]] = {
    "vocab": ({"task_params": {"vocab": 32}}, "more symbols than token_embedding was built for"),
    "answers": ({"task_params": {"vocab": 32}}, "other answers than the model gives"),
    "parameter": ({"task_params": {"pears": 2}}, r"stages\[0\]\.task_params\.pears: unknown key"),
    "pairs": ({"task_params": {"pairs": 9}}, r"stages\[0\]\.task_params: 9 pairs"),
    "freeze": ({"freeze": "nobody"}, r"stages\[0\]\.freeze: fits no weights"),
    "all": ({"freeze": "*"}, "freezes every weight"),
    "open": ({"open": {"nobody": 3}}, r"stages\[0\]\.open: fits no branch"),
    "join": ({"open": {"a|s": 3}}, "no open branch"),
    "group": ({"name": "b", "grow": {"nobody": 1}}, "fits no group"),
}


@pytest.mark.parametrize("case", sorted(MISFIT))
def test_what_the_model_or_the_task_does_not_have_is_told_before(
    case: str, tmp_path: Path, mqar: Task
) -> None:
    stage, said = MISFIT[case]
    first = {"name": "a", "until": 3}
    stages = [first, stage, {"name": "c"}] if "grow" in stage else [first | stage, {"name": "c"}]
    if "grow" in stage:
        stages[1] = {**stage, "until": 3}
    with pytest.raises(SpecError, match=said):
        _train(mqar, _spec(stages), tmp_path)


def test_too_few_experts_are_told(tmp_path: Path) -> None:
    what = task("mqar", **HARD)
    text = "name: x\nwidth: 8\nnodes:\n  - {use: gru}\n  - {use: moe, experts: 4, top_k: 2}\n"
    spec = _spec([{"name": "a", "until": 3, "experts": 1}, {"name": "b"}])
    with pytest.raises(SpecError, match="2 experts work on each position"):
        train(_model(what, text), what, spec, folder=tmp_path)


def test_the_memory_of_the_largest_stage_is_foreseen(
    tmp_path: Path, mqar: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real = memory.bytes_per_sample

    def noted(model: Any, what: Task, *rest: Any) -> float:
        seen.append((sum(p.numel() for p in model.parameters()), what.length))
        return real(model, what, *rest)

    monkeypatch.setattr(memory, "bytes_per_sample", noted)
    stages = [EASY, {"name": "b", "until": 2, "grow": {"stage": 3}}, {"name": "c"}]
    *_, model = _train(mqar, _spec(stages), tmp_path)
    largest = sum(p.numel() for p in model.parameters())
    assert seen == [(largest, 16), (largest, 8)]
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(DeviceError, match="do not fit"):
        _train(mqar, _spec(stages), tmp_path / "b")


def test_targets_and_patience_count_in_the_last_stage_alone(tmp_path: Path, mqar: Task) -> None:
    result, points, _ = _train(mqar, _spec(WAYS["growth"], target=0.0), tmp_path)
    assert result is not None and (result.steps, result.stop_reason) == (10, "target")
    assert [step for step, _ in _borders(points)] == [4, 8]
