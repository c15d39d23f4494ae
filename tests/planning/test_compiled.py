"""PyTorch's own budget: less memory with a smaller one, gradients checked, random operations refused, ends when asked.

PyTorch divides a graph under its budget whatever compiles the parts, so no C++ is compiled here.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from functorch.compile import (  # type: ignore[import-untyped]
    min_cut_rematerialization_partition,
    nop,
)
from torch import nn
from torch._dynamo.backends.common import aot_autograd

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.cli.plan import _print_compiled
from hybridlab.errors import RunError, SpecError
from hybridlab.planning import compiled
from hybridlab.planning.budgets import forms
from hybridlab.planning.budgets.stretches import Stretch
from hybridlab.planning.compared import SEARCH, Compared, CompiledPoint, PlannedPoint, doing
from hybridlab.planning.compiled import (
    CompiledStep,
    drawn_by,
    measure_compiled,
    missing_compiler,
)
from hybridlab.planning.planner import planner
from hybridlab.planning.recompute import Recomputing
from hybridlab.planning.record import Figures, Plan
from hybridlab.runs.context import Stopped
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from hybridlab.workflows import compiled_point, compiled_run, own_process
from hybridlab.workflows.compiled import compare_compiled, point
from hybridlab.workflows.plan import Planned
from tests.planning.steps import text

BACKEND = aot_autograd(
    fw_compiler=nop, bw_compiler=nop, partition_fn=min_cut_rematerialization_partition
)
NODES = "{use: swiglu}, {use: attention, heads: 2}, {use: mlp}"
TRAINING: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 16, "longer": 16},
    "batch": 4,
    "device": "cpu",
}
STAGES = [{"name": "a", "until": 3}, {"name": "b"}]
DESIGN = "name: small\nwidth: 8\nnodes: [{use: mlp}]\n"


def made(nodes: str = NODES) -> TrainingStep:
    model = build(loads(text(nodes)), seed=0).train()
    x = torch.randn(4, 48, 32, generator=torch.Generator().manual_seed(0))
    return TrainingStep(model, (x,), default_loss, default_optimiser(model))


def test_a_smaller_budget_takes_less_memory_and_the_model_is_plain_again() -> None:
    step = made()
    whole, less = (measure_compiled(step, share, steps=1, backend=BACKEND) for share in (1.0, 0.2))
    assert less.figures.peak_bytes < whole.figures.peak_bytes
    assert whole.graphs == less.graphs == 1
    assert whole.difference < 1e-4 and less.difference < 1e-4
    assert all(module._compiled_call_impl is None for module in step.model.modules())


def test_each_component_may_be_compiled_alone() -> None:
    step = made("{use: mlp}, {use: swiglu}")
    found = measure_compiled(step, 1.0, steps=1, by_component=True, backend=BACKEND)
    assert found.graphs == 2 and found.difference < 1e-4


def test_what_draws_random_numbers_is_refused_with_its_name() -> None:
    step = made("{use: attention, heads: 2}, {use: mlp}")
    assert not drawn_by(step)  # attention could drop, but by no chance
    model = step.model
    assert isinstance(model, GraphModel)
    slot = dict(model.slots())["mlp"]
    slot.body.forward = nn.Dropout(0.5).forward
    before = torch.random.get_rng_state()
    with pytest.raises(RunError, match=r"in mlp draws random numbers.*190758"):
        measure_compiled(step, 0.5, steps=1, backend=BACKEND)
    assert torch.equal(before, torch.random.get_rng_state())


def test_wrong_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    step, real = made("{use: mlp}"), compiled._gradients
    calls = iter((1.0, 1.1))

    def off(given: TrainingStep) -> list[torch.Tensor]:
        factor = next(calls)
        return [factor * one for one in real(given)]

    monkeypatch.setattr(compiled, "_gradients", off)
    with pytest.raises(RunError, match=r"gradients are off by 1\.0e-01"):
        measure_compiled(step, 1.0, steps=1, backend=BACKEND)


def test_what_does_not_compile_says_so() -> None:
    def broken(*given: Any) -> Any:
        raise ValueError("no such instruction\nand more")

    with pytest.raises(RunError, match=r"could not compile this step.*use a plan"):
        measure_compiled(made("{use: mlp}"), 0.5, steps=1, backend=broken)
    with pytest.raises(RunError, match="out of range"):
        measure_compiled(made("{use: mlp}"), 1.5, backend=BACKEND)


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeError

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    assert "no C++ compiler" in missing_compiler(torch.device("cpu"))
    assert not missing_compiler(torch.device("cuda"))


class Context:
    """A run's context that remembers what it was told."""

    def __init__(self, folder: Path, stop_after: int = 9, **spec: Any) -> None:
        self.folder, self.stop_after = folder, stop_after
        record = {"architecture": DESIGN, "training": TRAINING, **spec}
        self.run = SimpleNamespace(id="abc", spec=record, threads=1)
        self.told: list[int] = []

    def progress(self, step: int, steps: int) -> None:
        self.told.append(step)

    def stop_requested(self) -> str | None:
        return "cancel" if len(self.told) >= self.stop_after else None


def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    asked = {"architecture": DESIGN, "training": TRAINING, "steps": 1, "share": None}
    found = point({**asked, "spans": [[0, 0]]})["figures"]
    assert found["peak_bytes"] > 0 and found["step_ms"] > 0


def test_what_is_asked_for_is_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measured(step: TrainingStep, share: float, **more: Any) -> CompiledStep:
        assert isinstance(step.model, GraphModel)
        running = step.model.running
        seen.append(
            (share, more["by_component"], isinstance(running, Recomputing) and running.spans)
        )
        return CompiledStep(Figures(peak_bytes=1, step_ms=2.0), 3, 4.0, 0.0)

    monkeypatch.setattr(compiled_point, "measure_compiled", measured)
    monkeypatch.setattr(compiled_point, "missing_compiler", lambda device: "")
    asked = {"architecture": DESIGN, "training": TRAINING, "steps": 1, "share": 0.5}
    found = compiled_point.measure({**asked, "spans": [[0, 1]], "by_component": True})
    assert found["figures"] == {"peak_bytes": 1, "step_ms": 2.0} and found["graphs"] == 3
    compiled_point.measure(asked)
    assert seen == [(0.5, True, ((0, 1),)), (0.5, False, False)]
    monkeypatch.setattr(compiled_point, "missing_compiler", lambda device: "there is no compiler")
    with pytest.raises(RunError, match="there is no compiler"):
        compiled_point.measure(asked)


def test_a_measurement_ends_at_once_with_its_processes(tmp_path: Path) -> None:
    context = Context(tmp_path, stop_after=2)
    began = time.monotonic()
    with pytest.raises(Stopped):
        compiled_run.run(context)  # type: ignore[arg-type]
    assert time.monotonic() - began < 60 and not (tmp_path / compiled_run.FILE).exists()
    with pytest.raises(RunError, match="no architecture and settings"):
        compiled_run.run(Context(tmp_path, training=None))  # type: ignore[arg-type]


def test_a_run_leaves_its_points_and_says_why_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"figures": {"peak_bytes": 9, "step_ms": 1.0}}
    plan = {"spans": [[0, 1]], "shares": [0.5, None], "predicted": figures["figures"]}
    plan |= {"stretches": [[0, 1]]}
    asked_for: list[Any] = []

    def answered(asked: Any, on_look: Any, on_said: Any = None) -> Any:
        on_look()
        if asked.get("plans"):
            on_said({"done": 5, "parts": 10})
            on_look()
            return {"plans": [plan, {**plan, "spans": []}]}
        if asked.get("shares"):
            asked_for.append((asked["spans"], asked["shares"], asked["stretches"]))
            if not asked["spans"]:
                raise RunError("no memory is left")
            return {**figures, "graphs": 1, "compile_s": 3.0, "difference": 0.0}
        if asked["share"] is None:
            return figures
        if asked["share"] < 1:
            raise RunError("the compiler gave up")
        return {**figures, "graphs": 2, "compile_s": 3.0, "difference": 1e-7}

    monkeypatch.setattr("hybridlab.workflows.compiled.point", answered)
    context = Context(tmp_path, shares=[1.0, 0.5])
    result = compiled_run.run(context)  # type: ignore[arg-type]
    half = 3 + SEARCH // 2
    assert context.told == [0, 1, 2, 3, half, 3 + SEARCH, 4 + SEARCH, 6 + SEARCH]
    assert [one["why"] for one in result["points"]] == ["", "the compiler gave up"]
    content = json.loads((tmp_path / compiled_run.FILE).read_text())
    assert content.pop("beside") == 0
    read = Compared.read(content)
    assert [one.share for one in read.found] == [1.0]
    assert asked_for == [([[0, 1]], [0.5, None], [[0, 1]]), ([], [0.5, None], [[0, 1]])]
    first, other = read.planned
    assert first.measured is not None and first.measured.peak_bytes == 9
    assert first.told == "1 of 2 components below budget 1, 2 computed again, compiled in 1 piece"
    assert other.measured is None and other.why == "no memory is left" and not read.not_planned


def test_what_could_not_be_measured_at_all_says_why_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(asked: Any, on_look: Any, on_said: Any = None) -> Any:
        if asked.get("plans"):
            raise RunError("nothing to plan")
        if asked["share"] is None:
            return {"figures": {"peak_bytes": 9, "step_ms": 1.0}}
        raise RunError("the compiler gave up")

    monkeypatch.setattr("hybridlab.workflows.compiled.point", answered)
    with pytest.raises(RunError, match=r"(?s)gave up.*nothing to plan"):
        compiled_run.run(Context(tmp_path, shares=[0.5, 0.25]))  # type: ignore[arg-type]


def test_plans_with_budgets_within_are_made_in_a_process_and_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_point, "missing_compiler", lambda device: "")
    training = {**TRAINING, "batch": 64}
    design = "name: small\nwidth: 8\nnodes: [{use: swiglu}, {use: swiglu}, {use: mlp}]\n"
    asked = {"architecture": design, "training": training, "steps": 1, "share": None}
    asked |= {"backend": "aot_eager_decomp_partition"}
    plans = compiled_point.measure({**asked, "plans": 2, "within": [1.0, 0.0]})["plans"]
    assert len(plans) == 2 and json.loads(json.dumps(plans)) == plans
    assert plans[0]["predicted"]["peak_bytes"] < plans[1]["predicted"]["peak_bytes"]
    found = compiled_point.measure({**asked, **plans[0]})
    assert found["difference"] < 1e-4 and found["graphs"]
    promised = plans[0]["predicted"]["peak_bytes"]
    assert found["figures"]["peak_bytes"] == pytest.approx(promised, rel=0.02)


def test_plans_are_measured_as_they_were_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled together in a plan is compiled together when it is measured: its peak says so."""

    def answered(asked: Any, on_look: Any, on_said: Any = lambda said: None) -> Any:
        on_look()
        return compiled_point.measure(asked, on_said)

    monkeypatch.setattr(compiled_point, "missing_compiler", lambda device: "")
    monkeypatch.setattr("hybridlab.workflows.compiled.point", answered)
    monkeypatch.setattr("hybridlab.workflows.compiled.BUDGETS", (1.0, 0.0))
    monkeypatch.setattr(forms, "_timed", together_is_faster(forms._timed))
    design = "name: small\nwidth: 8\nnodes: [{use: swiglu}, {use: mlp}, {use: swiglu}]\n"
    heard: list[str] = []
    found = compare_compiled(
        *(design, TRAINING | {"batch": 64}),
        shares=(1.0,),
        plans=4,
        steps=1,
        backend="aot_eager_decomp_partition",
        on_part=lambda done, parts: heard.append(doing(done, parts, budgets=1)),
    )
    assert any(one.stretches for one in found.planned) and not found.not_planned
    for one in found.planned:
        assert one.measured is not None, one.why
        assert one.measured.peak_bytes == pytest.approx(one.predicted.peak_bytes, rel=0.02)
    assert heard[0] == "Timing the step as it is, not compiled"
    assert heard[1] == "Compiling and timing the step as a whole, budget 1 of 1"
    assert heard[2].endswith("to find plans: 0 %") and heard[3].startswith("Measuring plans, 1 of ")


def together_is_faster(timed: Any) -> Any:
    """A clock for which what is compiled together takes no time."""

    def told(some: Any) -> Any:
        return tuple(
            replace(one, taken=replace(one.taken, ahead_us=1.0, back_us=1.0))
            if isinstance(some[0].module, Stretch)
            else one
            for one in timed(some)
        )

    return told


def test_a_process_that_dies_or_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"architecture": DESIGN, "training": TRAINING, "steps": 1, "share": None}
    with pytest.raises(RunError, match="was stopped"):
        point(asked, limit_s=0.1)
    monkeypatch.setattr(own_process, "sys", SimpleNamespace(executable="false"))
    with pytest.raises(RunError, match="ended with exit code 1: it said nothing"):
        point(asked)
    with pytest.raises(SpecError, match="stages: is not compared"):
        compiled_point.measure({**asked, "training": TRAINING | {"stages": STAGES}})


def test_points_say_what_they_are() -> None:
    figures = Figures(peak_bytes=9, step_ms=1.0)
    one = CompiledPoint(share=0.5, measured=figures, graphs=3)
    assert one.told == "compiled in 3 graphs, budget 0.5"
    assert Compared(plain=figures, points=(one, CompiledPoint(share=0, why="no"))).found == (one,)
    with pytest.raises(RunError, match="share"):
        Compared.read({"plain": figures.model_dump(), "points": [{"share": 2}]})


def test_plans_with_budgets_within_are_printed_and_given_as_points(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = Figures(peak_bytes=3 << 20, step_ms=9.0)
    shares = (0.5, None)
    within = PlannedPoint(
        spans=((0, 1),), shares=shares, predicted=figures, measured=figures, difference=3e-7
    )
    failed = PlannedPoint(shares=shares, predicted=figures, why="no memory is left")
    found = Compared(plain=figures, points=(), planned=(within, failed))
    _print_compiled(found)
    said = capsys.readouterr()
    assert "1 of 2 components below budget 1, 2 computed again" in said.out
    assert "3e-07" in said.out and "no memory is left" in said.err
    chosen = Plan(
        fingerprint="f", components=("a", "b"), batch=1, length=1, predicted=figures, plain=figures
    )
    made = planner(loads("name: x\nwidth: 8\nnodes: [{use: mlp}]"))
    *_, point = Planned(chosen, (chosen,), made, compared=found).as_dict()["points"]
    assert point["plan"] == [["a", "b"]] and point["budgets"] == {"a": 0.5, "b": None}
    assert point["source"] == "measured, compiled" and point["peak_bytes"] == 3 << 20
