"""Compiled regions: what is found, counted, kept and refused; graphs are really traced, the C++ is left out.

PyTorch makes forward and backward of each graph and takes it apart whatever compiles the pieces, so these run as they
are here; ``benchmarks/fusion.py --regions`` compiles them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from torch import Tensor, fx, nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import Problem, RunError
from hybridlab.planning import turns
from hybridlab.planning.regions import apply, measure
from hybridlab.planning.regions.apply import Compiled, Region, compile_regions, made
from hybridlab.planning.regions.counts import Counting
from hybridlab.planning.regions.find import alone, find
from hybridlab.planning.regions.measure import choose_regions
from hybridlab.planning.regions.record import Regions
from hybridlab.planning.regions.report import RegionsReport
from hybridlab.trace.step import TrainingStep, default_optimiser

CPU = torch.device("cpu")
GATES = """
name: x
width: 16
nodes:
  - {use: token_embedding, vocab: 32}
  - {id: g, repeat: 2, residual: pre, nodes: [{use: swiglu, residual: pre}]}
  - {use: lstm, residual: pre}
"""
ONE = "name: x\nwidth: 16\nnodes: [{use: token_embedding, vocab: 32}, {use: mlp, residual: pre}]"


def nothing_compiled(graph: fx.GraphModule, inputs: Any, **settings: Any) -> Any:
    """Take a graph as PyTorch's compiler is given it, and run it as it is."""
    return make_boxed_func(graph.forward)


def broken(graph: fx.GraphModule, inputs: Any, **settings: Any) -> Any:
    raise ValueError("no such instruction\nand more")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def step_of(text: str = GATES, *, training: bool = True) -> TrainingStep:
    model = build(loads(text), seed=0)
    x = torch.randint(32, (2, 12), generator=torch.Generator().manual_seed(0))
    if not training:
        return TrainingStep(model.eval(), (x,), loss=None)
    return TrainingStep(model.train(), (x,), optimiser=default_optimiser(model))


def record_of(step: TrainingStep, *paths: str, **more: Any) -> Regions:
    assert isinstance(step.model, GraphModel)
    mark = step.model.architecture.fingerprint
    training = step.loss is not None
    shapes = more.pop("shapes", (((2, 12, 16),),) * len(paths))
    return Regions(
        fingerprint=mark,
        device="cpu",
        training=training,
        batch=2,
        paths=paths,
        shapes=shapes,
        **more,
    )


def clocks(monkeypatch: pytest.MonkeyPatch, compiled_ms: float) -> None:
    """Let a step take 1 ms, more by a little each time, and another time where anything is compiled."""
    drift = iter(range(10**6))

    def run_ms(step: TrainingStep) -> float:
        compiled = any(
            isinstance(one.__dict__.get("forward"), Region) for one in step.model.modules()
        )
        return (compiled_ms if compiled else 1.0) + 1e-6 * next(drift)

    monkeypatch.setattr(turns, "run_ms", run_ms)


def test_what_may_be_compiled_is_found_and_what_not_is_told() -> None:
    step = step_of()
    slot = dict(step.model.slots())["g.1.swiglu"]  # type: ignore[operator]
    slot.body.project_out = nn.Sequential(slot.body.project_out, nn.Dropout(0.5))
    slot.body.project_out.in_features = slot.body.project_out[0].in_features
    found, refused = find(step)
    paths = {one.name: one.paths for one in found}
    assert paths["swiglu"] == ["root.g.0.swiglu"]
    assert paths["rms_norm by itself"] == ["root.g.norm", "root.g.1.swiglu.norm", "root.lstm.norm"]
    assert all(0 < one.saved_bytes <= one.chained_bytes <= one.plain.moved_bytes for one in found)
    assert [one.promise_bytes for one in found] == sorted(
        (one.promise_bytes for one in found), reverse=True
    )
    why = {(one.name, one.paths[0]): one.why for one in refused}
    assert "recurrent layers" in why["lstm", "root.lstm"]
    assert "190758" in why["swiglu", "root.g.1.swiglu"]
    assert "embedding" in why["token_embedding", "root.token_embedding"]
    assert all("forward" not in one.__dict__ for one in step.model.modules())
    assert not any(one._forward_pre_hooks for one in step.model.modules())
    step.model.eval()
    still, _ = find(TrainingStep(step.model, step.inputs, loss=None))  # nothing drops there
    assert "root.g.1.swiglu" in {path for one in still for path in one.paths}


@pytest.mark.parametrize("training", [False, True])
def test_what_is_faster_is_kept_and_counted(
    monkeypatch: pytest.MonkeyPatch, *, training: bool
) -> None:
    clocks(monkeypatch, 0.8)
    step = step_of(training=training)
    before = {name: one.data_ptr() for name, one in step.model.state_dict().items()}
    told: list[tuple[int, int, str]] = []
    found = choose_regions(
        step,
        rounds=7,
        counting=Counting(nothing_compiled),
        on_part=lambda *at: told.append(at),
    )
    assert found.applied and found.why == "is faster"
    assert all(one.kept and one.graphs == 1 and not one.breaks for one in found.judged)
    assert set(found.regions.paths) >= {"root.g.0.swiglu", "root.g.1.swiglu", "root.lstm.norm"}
    assert found.regions.training is training and not found.regions.broken
    assert found.ratio.value == pytest.approx(0.8, rel=0.01)
    assert 0 <= found.error <= found.tolerance == 1e-4
    regions = [one.paths[0] for one in found.judged]
    assert [doing for *_, doing in told] == ["", *regions, "", "", "", ""]
    assert told[-1][:2] == (len(regions) + 3, len(regions) + 3)
    for one in found.judged:
        assert one.compiled is not None and one.error is not None and one.error <= found.tolerance
        assert one.compiled.moved_bytes < one.plain.moved_bytes
        assert one.compiled.kernels < one.plain.kernels
    assert found.compiled.operators < found.plain.operators
    assert found.compiled.moved_bytes < found.plain.moved_bytes
    assert found.plain.peak_bytes > 0 and found.compiled.peak_bytes > 0
    assert {name: one.data_ptr() for name, one in step.model.state_dict().items()} == before
    assert all("forward" not in one.__dict__ for one in step.model.modules())
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert RegionsReport.read(content) == found and content["applied"]
    assert "lower bound" in content["bytes_are"]


def test_what_is_slower_or_other_or_does_not_compile_is_never_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks(monkeypatch, 1.2)
    found = choose_regions(
        step_of(ONE, training=False), rounds=7, counting=Counting(nothing_compiled)
    )
    assert not found.applied and found.why == "nothing is measured faster compiled"
    (one,) = found.judged
    assert one.why == "is not measured faster" and not one.kept
    assert found.compiled == found.plain

    clocks(monkeypatch, 0.8)
    found = choose_regions(step_of(ONE, training=False), rounds=7, counting=Counting(broken))
    assert not found.applied and found.judged
    assert {one.why for one in found.judged} == {"cannot be compiled: no such instruction"}
    assert all(one.compiled is None and one.ratio is None for one in found.judged)

    monkeypatch.setattr(measure, "apart", lambda one, other: 0.5)
    found = choose_regions(
        step_of(ONE, training=False), rounds=7, counting=Counting(nothing_compiled)
    )
    assert not found.applied
    assert all("of the largest value" in one.why and one.ratio is None for one in found.judged)


def test_what_did_not_end_before_is_left_out_and_a_set_that_is_slow_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_turns(step: TrainingStep, variants: list[Any], rounds: int) -> list[list[float]]:
        lone = not isinstance(step.model, GraphModel)
        return [[1.0] * rounds, *([[0.9 if lone else 1.1] * rounds] * len(variants))]

    monkeypatch.setattr(turns, "in_turns", in_turns)
    step = step_of(training=False)
    first = find(step)[0][0].paths[0]
    left_out = {first: "did not end within 1 minutes and was stopped"}
    found = choose_regions(
        step, rounds=7, most=1, left_out=left_out, counting=Counting(nothing_compiled)
    )
    assert [one.why for one in found.judged] == [left_out[first]] and not found.applied
    assert any("promise more" in left.why for left in found.refused)

    found = choose_regions(
        step_of(ONE, training=False), rounds=7, counting=Counting(nothing_compiled)
    )
    assert [(one.why, one.kept) for one in found.judged] == [("is faster", False)]
    assert not found.applied and "does not make the step faster" in found.why


class Breaking(nn.Module):
    """A gate that asks for a value on the way."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain
        self.in_features, self.out_features = plain.in_features, plain.out_features

    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        y: Tensor = self.plain(x)
        return y


def test_graph_breaks_are_counted_with_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, 0.8)
    step = step_of("name: x\nwidth: 16\nnodes: [{use: token_embedding, vocab: 32}, {use: swiglu}]")
    body = dict(step.model.slots())["swiglu"].body  # type: ignore[operator]
    body.project_out = Breaking(body.project_out)
    found = choose_regions(step, rounds=7, counting=Counting(nothing_compiled))
    (one,) = found.judged
    assert one.graphs > 1 and one.kept
    assert sum(broken.times for broken in one.breaks) >= 1 and one.breaks[0].why
    assert found.regions.broken == found.regions.paths == ("root.swiglu",)


def test_a_region_runs_compiled_only_as_it_was_measured() -> None:
    step = step_of()
    plain = {name: one.grad for name, one in gradients(step)}
    counting = Counting(nothing_compiled)
    compiled = made(step.model, record_of(step, "root.g.0.swiglu"), backend=counting)  # type: ignore[arg-type]
    compiled.on()
    step.model(step.inputs[0][:1])  # a training begins so, to see what memory it takes
    assert not counting.graphs
    for name, one in gradients(step):
        assert one.grad is not None and plain[name] is not None
        assert turns.gap(plain[name], one.grad) < 1e-5  # type: ignore[arg-type]
    assert counting.graphs == 1
    region = compiled.regions["root.g.0.swiglu"]
    calls: list[int] = []
    inner = region._compiled

    def counted(*inputs: Tensor) -> Tensor:
        calls.append(1)
        output: Tensor = inner(*inputs)
        return output

    region._compiled = counted
    (x,) = step.inputs
    step.model(x)
    assert len(calls) == 1 and region.ready
    step.model(x[:1])  # another batch
    with torch.no_grad():
        step.model(x)
    step.model.eval()(x)
    step.model.train()
    hook = region.module.body.register_forward_hook(lambda *given: None)
    step.model(x)
    hook.remove()
    assert len(calls) == 1 and counting.graphs == 1
    counted_work = turns.work(
        step, compiled
    )  # it runs once, and once more with a recorder, which sees every operator
    assert len(calls) == 2 and counted_work.operators > 100
    compiled.on()
    step.model(x)
    assert len(calls) == 3
    compiled.off()
    step.model(x)
    assert len(calls) == 3 and "forward" not in region.module.__dict__


def gradients(step: TrainingStep) -> list[tuple[str, nn.Parameter]]:
    step.model.zero_grad()
    assert step.loss is not None
    step.loss(step.model(*step.inputs)).backward()  # type: ignore[no-untyped-call]
    some = [(name, one) for name, one in step.model.named_parameters() if one.grad is not None]
    return [(name, _copy(one)) for name, one in some]


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    copied = nn.Parameter(parameter.detach().clone())
    copied.grad = parameter.grad
    parameter.grad = None
    return copied


def test_a_training_goes_on_where_a_region_cannot_be_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, said = step_of(), []
    record = record_of(step, "root.g.0.swiglu", "root.lstm.norm")
    compiled = made(step.model, record, backend=Counting(broken), say=said.append)  # type: ignore[arg-type]
    plain = step.model(*step.inputs)
    compiled.on()
    assert torch.equal(step.model(*step.inputs), plain)
    step.model(*step.inputs)
    assert said == [
        "compiling region 1 of 2, root.g.0.swiglu …",
        "region root.g.0.swiglu cannot be compiled here and stays as it is: no such instruction",
        "compiling region 2 of 2, root.lstm.norm …",
        "region root.lstm.norm cannot be compiled here and stays as it is: no such instruction",
    ]
    compiled.off()
    monkeypatch.setattr(apply, "missing_compiler", lambda device: "there is no C++ compiler")
    said.clear()
    compile_regions(step.model, record, CPU, 2, said.append)  # type: ignore[arg-type]
    assert said == ["regions stay as they are: there is no C++ compiler"]
    assert all("forward" not in one.__dict__ for one in step.model.modules())


def test_a_region_that_reads_other_sizes_is_told_once() -> None:
    step, said = step_of(), []
    record = record_of(step, "root.g.0.swiglu", shapes=(((2, 9, 16),),))
    made(step.model, record, backend=Counting(broken), say=said.append).on()  # type: ignore[arg-type]
    for _ in range(2):
        step.model(*step.inputs)
    told = (
        "region root.g.0.swiglu runs as it is: it reads ((2, 12, 16),), and was measured on others"
    )
    assert said == [told]


def test_a_missing_compiler_is_told_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "missing_compiler", lambda device: "there is no C++ compiler")
    with pytest.raises(RunError, match="there is no C\\+\\+ compiler; install one"):
        choose_regions(step_of())
    with pytest.raises(RunError, match="not built from an architecture"):
        choose_regions(TrainingStep(nn.Linear(2, 2), (torch.ones(1, 2),), loss=None))


def test_records_that_do_not_fit_are_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    step = step_of()
    model = step.model
    assert isinstance(model, GraphModel)
    good = record_of(step, "root.g.0.swiglu", compile_s=3.0)
    good.save(tmp_path / "regions.json")
    assert Regions.load(tmp_path / "regions.json") == good and not good.empty
    for change, said in (
        ({"training": False}, "measured for inference"),
        ({"device": "cuda"}, "another kind of device"),
        ({"fingerprint": "x"}, "another architecture"),
        ({"batch": 3}, "another batch"),
        ({"shapes": ()}, "not those of each"),
    ):
        with pytest.raises(RunError, match=said):
            compile_regions(model, good.model_copy(update=change), CPU, 2, print)
    paths = ("root.g", "root.g.0.swiglu", "root.g.0.swiglu", "root.nowhere", "")
    with pytest.raises(RunError) as raised:
        made(model, record_of(step, *paths, broken=("root.lstm",)))
    told = [(one.path, one.message) for one in raised.value.problems]
    assert ("regions.paths[1]", "lies within root.g, which is a region") in told
    assert ("regions.paths[2]", "is there twice") in told
    assert ("regions.paths[3]", "is no part of this model") in told
    assert ("regions.broken[0]", "is none of the paths") in told
    assert all(isinstance(one, Problem) for one in raised.value.problems)
    with pytest.raises(RunError, match=r"regions\.paths"):
        Regions.read({"fingerprint": "x", "device": "cpu", "batch": 1, "paths": 3})
    with pytest.raises(RunError, match="not of compiled regions"):
        RegionsReport.read({"version": 2})


def test_a_region_alone_has_the_gradients_that_it_has_in_the_model() -> None:
    step = step_of()
    found, _ = find(step)
    one = next(one for one in found if one.name == "swiglu")
    lone = alone(step, one)
    assert one.inputs[0].requires_grad and lone.loss is not None
    lone.loss(lone.model(*lone.inputs)).backward()  # type: ignore[no-untyped-call]
    assert lone.model.fresh[0].grad is not None
    assert all(p.grad is not None for p in one.module.parameters())
    assert isinstance(Compiled(step.model, {}, record_of(step)), Compiled)  # type: ignore[arg-type]
