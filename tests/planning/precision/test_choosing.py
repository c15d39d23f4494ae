"""What is measured better is kept, within a tolerance, nothing else; clocks are replaced: nothing hangs on timing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture import library
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import DeviceError, RunError, SpecError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.precision import judge
from hybridlab.planning.precision.apply import Mixed
from hybridlab.planning.precision.measure import PrecisionReport, choose_precisions
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from hybridlab.training.defaults import prepare
from hybridlab.workflows.precision import measure_precisions
from hybridlab.workflows.profile import training_step
from tests.planning.precision.test_precision import formats_of, model_of, tokens


def step_of(*, training: bool = True, within: torch.dtype | None = None) -> TrainingStep:
    model = model_of()
    more: dict[str, Any] = {}
    if within is not None:
        more["around"] = lambda: torch.autocast("cpu", within)
    if not training:
        return TrainingStep(model.eval(), (tokens(),), loss=None, **more)
    return TrainingStep(model, (tokens(),), optimiser=default_optimiser(model), **more)


def clocks(monkeypatch: pytest.MonkeyPatch, faster: Callable[[int], float]) -> None:
    """Let a step take 1 ms, more by a little each time, and as many times that as ``faster`` says of so many mixed."""
    drift = iter(range(10**6))

    def run_ms(step: TrainingStep) -> float:
        mixed = sum("forward" in module.__dict__ for module in step.model.modules())
        return faster(mixed) + 1e-6 * next(drift)

    monkeypatch.setattr(turns, "run_ms", run_ms)
    monkeypatch.setattr(Others, "cores", lambda self: 0.0)


def choose(step: TrainingStep, **more: Any) -> PrecisionReport:
    return choose_precisions(step, default_loss, rounds=7, **more)


def by_path(found: PrecisionReport) -> dict[str, Any]:
    return {one.component: one for one in found.judged}


@pytest.mark.parametrize("training", [False, True])
def test_what_is_faster_and_right_is_kept(
    monkeypatch: pytest.MonkeyPatch, *, training: bool
) -> None:
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    step = step_of(training=training)
    parts: list[tuple[int, int]] = []
    found = choose(step, on_part=lambda *at: parts.append(at))
    assert parts == [(at, 4) for at in range(5)]
    assert found.applied and found.why == "is faster"
    rows = by_path(found)
    assert set(found.precisions.formats) == {path for path, one in rows.items() if one.kept}
    assert set(rows) - set(found.precisions.formats) == {"token_embedding"}
    assert "has nothing that bfloat16 changes" in rows["token_embedding"].why
    assert found.ratio.value == pytest.approx(0.9**5, rel=0.01)
    assert 0 < found.error <= found.tolerance and 0 < found.loss_error <= found.loss_tolerance
    assert all(1e-4 < rows[path].output_error < 5e-2 for path in found.precisions.formats)
    assert (found.saved_bytes < found.plain_saved_bytes) is training
    assert found.precisions.training is training and found.precisions.device == "cpu"
    measured = found.precisions.measured
    assert measured is not None and measured.saved_bytes == found.saved_bytes
    assert not any("forward" in module.__dict__ for module in step.model.modules())
    assert isinstance(step.model, GraphModel)
    Mixed(step.model, found.precisions).on()
    assert found.as_dict()["precisions"]["formats"] and found.as_dict()["applied"]


def test_errors_are_those_of_one_state_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns move the weights as a training does: both sides of a comparison come before or after them."""
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    said = turns.run_ms

    def run_ms(step: TrainingStep) -> float:
        if step.optimiser is not None:
            with torch.no_grad():
                for parameter in step.parameters:
                    parameter.mul_(0.9)
        return said(step)

    monkeypatch.setattr(turns, "run_ms", run_ms)
    found = choose(step_of())
    assert found.applied and found.error <= found.tolerance
    assert found.loss_error <= found.loss_tolerance and found.plain_error == 0.0


def test_what_is_no_longer_right_once_weights_have_moved_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    compared, fastest, moved = judge.errors, turns.fastest, []

    def timed(*given: Any) -> int | None:
        moved.append(True)
        return fastest(*given)

    def errors(exact: judge.Answer, other: judge.Answer) -> judge.Errors:
        found = compared(exact, other)
        return judge.Errors(found.loss, 0.9) if moved and found.values else found

    monkeypatch.setattr(turns, "fastest", timed)
    monkeypatch.setattr(judge, "errors", errors)
    found = choose(step_of(), tolerance=0.5)
    assert not found.applied and found.why == "what is faster is not within the tolerance together"
    assert not any(one.kept for one in found.judged)


def test_what_is_slower_is_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, lambda mixed: 1.1**mixed)
    found = choose(step_of(training=False))
    assert not found.applied and found.why == "no component is measured faster in it"
    assert not any(one.kept for one in found.judged) and found.precisions.measured is None
    assert found.mixed == found.plain and found.saved_bytes == found.plain_saved_bytes
    assert {one.why for one in found.judged if one.ratio} == {"is not measured faster"}


def test_what_is_slower_may_still_be_kept_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, lambda mixed: 1.1**mixed)
    step = step_of()
    step.inputs = (tokens(8, 64),)  # copies of weights in 16 bits, which are kept too, weigh less
    found = choose(step, memory=True)
    assert found.applied and found.why == "keeps fewer bytes" and found.ratio.low > 1
    assert found.saved_bytes < 0.8 * found.plain_saved_bytes
    for one in found.judged:
        assert one.kept is (one.saved_bytes < one.plain_saved_bytes), one.component
    with pytest.raises(RunError, match="in training steps only"):
        choose(step_of(training=False), memory=True)


def test_what_exceeds_the_tolerance_alone_or_together_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    every = choose(step_of())
    worst = max((one for one in every.judged if one.error), key=lambda one: one.error or 0.0)
    assert worst.error is not None and worst.error < every.error
    found = choose(step_of(), tolerance=0.999 * worst.error)
    left = by_path(found)[worst.component]
    assert not left.kept and "changes gradients by" in left.why
    assert found.applied and found.error <= 0.999 * worst.error
    none = choose(step_of(), tolerance=1e-9)
    assert not none.applied and none.why == "no component may compute in it"
    some = choose(step_of(), tolerance=(worst.error + every.error) / 2)
    kept = [one for one in some.judged if one.kept]
    assert some.applied and 0 < len(kept) < 5 and some.error <= some.tolerance
    assert list(some.precisions.formats) == [one.component for one in kept]


def test_what_is_no_faster_together_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, lambda mixed: 0.9 if mixed == 1 else 1.0 + 0.01 * mixed)
    found = choose(step_of(training=False))
    assert not found.applied and "not measured faster together" in found.why
    assert {one.why for one in found.judged if one.ratio} == {
        "is not faster together with the others"
    }


def test_in_a_step_of_16_bits_some_may_stay_in_32(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    found = choose(step_of(within=torch.bfloat16))
    assert found.precisions.within == "bfloat16" and found.applied
    assert set(found.precisions.formats.values()) == {"float32"}
    assert found.plain_error > 0 and found.error <= max(found.plain_error, found.tolerance)
    with pytest.raises(RunError, match="is that of the whole step"):
        choose(step_of(within=torch.bfloat16), format="bfloat16")


@pytest.mark.parametrize(
    ("path", "weight", "largest", "said"),
    [
        ("block.1.f", "project_out", 1e6, "overflows in float16: "),
        ("head", "unembedding", 4e4, "is unsafe in float16: its products come to 40,"),
    ],
)
def test_what_overflows_is_named(
    monkeypatch: pytest.MonkeyPatch, path: str, weight: str, largest: float, said: str
) -> None:
    clocks(monkeypatch, lambda mixed: 0.9**mixed)
    step = step_of(training=False)
    body = step.model.get_submodule(f"root.{path}.body")
    seen: list[Tensor] = []
    hook = body.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        step.model(*step.inputs)
        hook.remove()
        body.get_submodule(weight).weight.mul_(largest / float(seen[0].abs().max()))  # type: ignore[operator]
    found = choose(step, format="float16", tolerance=1.0, loss_tolerance=1.0)
    rows = by_path(found)
    assert said in rows[path].why and not rows[path].kept
    assert rows["block.0.a"].kept


def test_gradients_of_single_components_are_not_in_float16() -> None:
    with pytest.raises(DeviceError, match="would be lost in float16"):
        choose(step_of(), format="float16")


@pytest.mark.parametrize(
    ("preset", "task"), [("lstm_attention_mini", "parity"), ("samba_mini", "mqar")]
)
def test_gradients_of_presets_are_close(preset: str, task: str) -> None:
    chosen, spec = prepare({"task": task, "batch": 2, "device": "cpu"})
    model = build(fit(library.open_architecture(preset), chosen), chosen.input_type(), seed=0)
    step = training_step(model, chosen, spec)
    assert step.loss is not None
    exact = judge.answer(step, step.loss)
    with judge.turned_on(Mixed(model, formats_of(model, *(path for path, _ in model.slots())))):
        found = judge.errors(exact, judge.answer(step, step.loss))
    assert found.loss < 1e-2 and 0 < found.values < 5e-2


def test_bytes_kept_are_counted_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Tanh())
    x = torch.randn(4, 8)
    step = TrainingStep(model, (x,), loss=default_loss)

    def loss(output: Tensor) -> Tensor:
        return output.sum()

    assert (
        judge.saved_bytes(step, loss) == 2 * 4 * 16 * 4
    )  # two results, each used twice; batch and weights apart
    assert judge.saved_bytes(TrainingStep(model, (x,), loss=None), loss) == 0


def test_errors_are_relative_and_never_pass_where_they_are_no_numbers() -> None:
    exact, other = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert judge.apart(exact, other) == pytest.approx(0.1)
    assert judge.apart(torch.zeros(2), torch.zeros(2)) == 0.0
    assert judge.apart(torch.zeros(2), other) == float("inf")
    lost = judge.errors(judge.Answer(1.0, exact), judge.Answer(float("nan"), other))
    assert lost.or_else(judge.Errors(0.2, 0.05)) == judge.Errors(0.2, pytest.approx(0.1))
    assert not lost.within(judge.Errors(1.0, 1.0))


def test_options_out_of_range_are_all_told() -> None:
    design = library.open_architecture("samba_mini")
    with pytest.raises(SpecError) as told:
        measure_precisions(design, {"task": "mqar"}, format="int8", tolerance=0.0, loss_tolerance=2)
    assert [one.path for one in told.value.problems] == ["format", "tolerance", "loss_tolerance"]
