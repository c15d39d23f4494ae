"""Predictions against counting, against torch's own counter, and against a measured step."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.library import presets
from hybridlab.architecture.model import build
from hybridlab.components.types import sequence
from hybridlab.hardware.ceilings import Bandwidth
from hybridlab.hardware.roofline import Roofline
from hybridlab.trace.component_cost import trace_slot
from hybridlab.trace.predict import predict, type_bytes
from hybridlab.trace.producers import producers


def prediction(nodes: str, **settings):
    return predict(loads(f"name: x\nwidth: 32\nnodes: [{nodes}]"), **settings)


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
def test_parameters_are_counted_exactly(entry):
    architecture = loads(entry.text())
    counted = sum(p.numel() for p in build(architecture).parameters())
    found = predict(architecture, batch=2, length=32)
    assert found.params == counted == sum(cost.params for cost in found.components)
    assert found.ok and found.step_ms > 0 and found.peak_bytes > 16 * counted


@pytest.mark.parametrize("use", ["mlp", "swiglu", "gated_linear_attention", "mamba2"])
def test_flops_equal_torchs_counter_where_it_can_count(use):
    architecture = loads(f"name: x\nwidth: 32\nnodes: [{{use: {use}}}]")
    model = build(architecture)
    x = torch.randn(3, 40, 32, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        y = model(x)
    with FlopCounterMode(display=False) as backward:
        y.backward(torch.ones_like(y))
    found = predict(architecture, batch=3, length=40)
    assert found.flops_forward == forward.get_total_flops() > 0
    assert found.flops_step == forward.get_total_flops() + backward.get_total_flops()
    assert found.flops_per_sample == found.flops_forward / 3


def test_attention_on_a_cpu_is_counted_though_torch_does_not():
    batch, length, width = 2, 48, 32
    found = prediction("{use: attention, heads: 4, kv_heads: 4}", batch=batch, length=length)
    projections = 4 * 2 * batch * length * width * width
    scores = 2 * 2 * batch * length * length * width
    assert found.flops_forward == projections + scores


def test_recurrences_lie_on_the_line_of_two_short_lengths():
    inference = infer(loads("name: x\nwidth: 16\nnodes: [{use: lstm}]"))
    plan = inference.slots["lstm"]
    exact = trace_slot(plan, "rms_norm", 2, 8)
    longer = trace_slot(plan, "rms_norm", 2, 80)
    weights = 2 * 2 * 16 * (4 * 16) * 2
    assert exact.forward.flops == 8 * weights
    assert longer.forward.flops == 80 * weights
    shorter = trace_slot(plan, "rms_norm", 2, 4)
    assert longer.saved_bytes - exact.saved_bytes == 18 * (exact.saved_bytes - shorter.saved_bytes)


def test_tied_repeats_cost_as_often_as_they_run():
    once = prediction("{id: g, nodes: [{use: mlp}]}")
    thrice = prediction("{id: g, repeat: 3, tie: true, nodes: [{use: mlp}]}")
    free = prediction("{id: g, repeat: 3, nodes: [{use: mlp}]}")
    assert thrice.flops_step == 3 * once.flops_step == free.flops_step
    assert thrice.params == once.params == free.params / 3
    assert len(thrice.components) == 1 and len(free.components) == 3


def test_edges_carry_types_and_bytes():
    found = prediction("{use: lstm}, {use: mlp}", batch=4, length=10)
    assert found.edges["lstm"] == {"type": "sequence (B, L, 32) float32", "bytes": 4 * 10 * 32 * 4}
    assert type_bytes(sequence(32, "L/3"), 4, 10) == 4 * 4 * 32 * 4


def test_readers_are_followed_through_groups_to_the_writer():
    text = (
        "name: x\nwidth: 16\nnodes: [{use: lstm}, {id: g, repeat: 2, residual: pre, nodes: "
        "[{use: mlp}, {use: sum, inputs: [mlp, input, lstm]}]}, {use: gru}]"
    )
    reads = producers(infer(loads(text))).reads
    assert reads["g.0.mlp"] == ("g.norm",)
    assert reads["g.0.sum"] == ("g.0.mlp", "g.norm", "lstm")
    assert reads["g.1.sum"] == ("g.1.mlp", "g.0.sum", "lstm")
    assert reads["gru"] == ("g",)


def measured_peak(nodes: str, batch: int, length: int) -> int:
    """Bytes alive at the worst moment of one training step, counted by torch's own memory events."""
    model = build(loads(f"name: x\nwidth: 32\nnodes: [{nodes}]"), seed=0)
    optimiser = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(torch.randn(batch, length, 32)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step()
    alive = 3 * 4 * sum(p.numel() for p in model.parameters())
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    assert len(events) > 100
    peak = now = alive
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize(
    "nodes",
    [
        "{repeat: 4, nodes: [{use: attention, heads: 4}, {use: swiglu}]}",
        "{repeat: 4, nodes: [{use: mamba2, state: 16}]}",
        "{use: lstm}, {use: attention, heads: 4}",
    ],
)
def test_peak_is_near_the_measured_one(nodes):
    predicted = prediction(nodes, batch=16, length=128).peak_bytes
    assert predicted == pytest.approx(measured_peak(nodes, 16, 128), rel=0.25)


def test_errors_leave_a_partial_prediction_with_the_problems():
    found = prediction("{use: mlp}, {use: attention, heads: 5}")
    assert not found.ok
    assert [cost.path for cost in found.components] == ["mlp"]
    assert found.as_dict()["problems"][0]["path"] == "nodes[1].heads"


def test_errors_inside_repeats_and_residuals_leave_a_partial_prediction_too():
    inner = "[{use: mamba2, state: -1}, {use: swiglu}]"
    for more in ("repeat: 2", "repeat: 2, residual: pre", "residual: post"):
        text = f"name: x\nwidth: 32\nnodes:\n  - {{id: stage, {more}, nodes: {inner}}}\n  - {{use: gru}}\n"
        found = predict(loads(text), sequence(32), batch=2, length=16)
        assert not found.ok
        assert found.problems[0].path.startswith("nodes[0].nodes[0]")
        assert {cost.use for cost in found.components} <= {"swiglu", "gru", "rms_norm"}


def test_a_given_machine_is_used_and_named():
    slow = Roofline(1e9, (Bandwidth(1, 1e9),), 1e-5, "a slow machine")
    fast = Roofline(1e15, (Bandwidth(1, 1e15),), 1e-12, "a fast machine")
    nodes = "{repeat: 2, nodes: [{use: attention}, {use: swiglu}]}"
    first, second = prediction(nodes, roofline=slow), prediction(nodes, roofline=fast)
    assert first.step_ms > 1000 * second.step_ms
    assert first.flops_step / 1e9 * 1e3 < first.step_ms
    assert (first.ceilings, second.ceilings) == ("a slow machine", "a fast machine")


def test_what_fits_into_a_cache_moves_faster():
    machine = Roofline(1e12, (Bandwidth(1000, 1e9), Bandwidth(10_000, 1e8)), 0.0, "two levels")
    assert machine.seconds(0, 1000) == pytest.approx(1e-6)
    assert machine.seconds(0, 2000) == pytest.approx(2e-5)
    assert machine.seconds(0, 10**6) == pytest.approx(1e-2)
