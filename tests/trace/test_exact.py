"""The exact prediction against what really happens: the profiler's memory events, and torch's own FLOP counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hybridlab.architecture import library
from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import build
from hybridlab.profiling.session import profiled, resident_bytes
from hybridlab.tasks.registry import fit, task
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.costs import costs
from hybridlab.trace.exact import predict_module, predict_stream, record
from hybridlab.trace.predict import predict
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser

NODES = {
    "attention": "{repeat: 2, nodes: [{use: attention, heads: 4}, {use: swiglu}]}",
    "mamba2": "{use: mamba2, state: 16}, {use: mlp}",
    "lstm": "{use: lstm}, {use: attention, heads: 4}",
    "fork": "{id: a, use: mlp}, {id: b, use: short_conv, inputs: [a]}, {id: s, use: sum, inputs: [a, b]}",
    "shared": "{id: g, repeat: 2, tie: true, residual: pre, nodes: [{use: swiglu}]}",
}


def text(nodes: str) -> str:
    return f"name: x\nwidth: 32\nnodes: [{nodes}]"


@pytest.mark.parametrize("name", list(NODES))
def test_the_peak_is_that_of_the_profilers_memory_events(name: str) -> None:
    architecture = loads(text(NODES[name]))
    batch, length = 4, 48
    predicted = predict_stream(architecture, batch=batch, length=length)
    model = build(architecture, seed=0)
    inputs = torch.randn(batch, length, 32)
    step = TrainingStep(model, (inputs,), default_loss, default_optimiser(model))
    _, memory, _ = profiled(step, 2, torch.device("cpu"), None)
    now = measured = resident_bytes(step)
    for _, change in memory:
        now += change
        measured = max(measured, now)
    assert len(memory) > 50
    assert predicted.peak_bytes == pytest.approx(measured, rel=0.01)


def test_flops_equal_torchs_counter_and_the_quick_prediction() -> None:
    architecture = loads(text("{repeat: 2, nodes: [{use: gated_linear_attention}, {use: mlp}]}"))
    model = build(architecture, seed=0)
    x = torch.randn(3, 40, 32)
    with FlopCounterMode(display=False) as counter:
        default_loss(model(x)).backward()
    stream = predict_stream(architecture, batch=3, length=40)
    assert stream.flops == counter.get_total_flops() > 0
    # The quick one also counts the gradient of the input, which the whole step does not need.
    assert (
        stream.where(phase="forward").flops
        == predict(architecture, batch=3, length=40).flops_forward
    )


def test_every_operator_of_forward_and_backward_belongs_to_a_component() -> None:
    architecture = loads(text(NODES["attention"]))
    stream = predict_stream(architecture, batch=2, length=16)
    paths = set(infer(architecture).slots)
    assert paths <= set(stream.strings("component")) <= paths | {"(model)", "(loss)", "(optimiser)"}
    table = costs(stream, by=("component", "phase")).to_pylist()
    flops = {(row["component"], row["phase"]): row["flops"] for row in table}
    weights = [row for row in stream.storages.to_pylist() if row["category"] == "weights"]
    assert weights and {row["component"] for row in weights} <= paths
    for path in paths:
        assert flops[path, "backward"] == pytest.approx(2 * flops[path, "forward"], rel=0.3)


def test_what_data_decides_is_told() -> None:
    stream = predict_stream(
        loads(text("{id: m, use: moe, experts: 4, top_k: 2}")), batch=2, length=8
    )
    (note,) = stream.notes
    assert note.startswith("m: every expert is expected to get an even share")
    assert not predict_stream(loads(text("{use: mlp}")), batch=2, length=8).notes


def test_inference_keeps_nothing_for_backward() -> None:
    architecture = loads(text(NODES["attention"]))
    stream = predict_stream(architecture, batch=4, length=64, training=False)
    assert set(stream.strings("phase")) == {"forward"}
    assert not any(stream.storages["saved"].to_pylist())
    assert stream.peak_bytes < predict_stream(architecture, batch=4, length=64).peak_bytes / 3


def test_any_module_is_predicted_by_its_paths_and_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.GELU(), nn.Linear(16, 4)))
    before = [parameter.clone() for parameter in model.parameters()]
    stream = predict_module(model, (torch.randn(5, 8),))
    assert {"0", "1.0", "1.1"} <= set(stream.strings("component"))
    assert stream.where(component="1.1", phase="forward").flops == 2 * 5 * 16 * 4
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["lstm_attention_mini", "jamba_mini"])
def test_tensors_lie_as_they_do_in_a_real_step(name: str) -> None:
    """Strides too: where a gradient lies otherwise than its weight, a real step copies it."""
    architecture = fit(library.open_architecture(name), task("mqar"))
    kind = task("mqar").input_type()
    predicted = predict_stream(architecture, kind, batch=2, length=24)
    model = build(architecture, kind, seed=0).train()
    step = TrainingStep(
        model, (torch.randint(16, (2, 24)),), default_loss, default_optimiser(model)
    )
    step.run(Attribution({}))
    real = record(step, "measured")
    assert predicted.strings("op") == real.strings("op")
    for column in ("input_strides", "output_strides"):
        assert predicted.ops[column].to_pylist() == real.ops[column].to_pylist(), column
    assert predicted.peak_bytes == real.peak_bytes
