"""What may be an objective beside the task's metric: what is predicted, and energy where something measures it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybridlab.architecture.model import build
from hybridlab.errors import SpecError
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.search import goals
from hybridlab.search.halving import PRICES, RUNGS, at_rung, foreseen
from hybridlab.search.landscape import Outcome
from hybridlab.search.opening import landscape_of
from hybridlab.search.samplers import make_sampler
from hybridlab.search.spec import search_of
from hybridlab.search.study import ask, completed, mended_row, open_study, tell
from hybridlab.search.trained import TrainedLandscape
from hybridlab.tasks.registry import fit

LAYERS, WIDTH, KV, HEADS, WINDOW, LENGTH = 2, 16, 1, 4, 3, 12
DESIGN = f"""
name: two
width: {WIDTH}
nodes:
  - {{id: wide, use: attention, heads: {HEADS}, kv_heads: {KV}}}
  - id: again
    repeat: {LAYERS}
    tie: true
    nodes:
      - {{id: near, use: attention, heads: {HEADS}, window: {WINDOW}}}
  - {{id: mlp, use: mlp}}
"""
SEARCH = """
name: tiny
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 8, longer: 12}, steps: 50, batch: 4, warmup_steps: 1, device: cpu}
search:
  wide: {kv_heads: [1, 2, 4]}
  mlp: {use: [mlp, swiglu]}
objectives: OBJECTIVES
"""


def opened(folder: Path, objectives: str) -> TrainedLandscape:
    (folder / "two.yaml").write_text(DESIGN)
    text = SEARCH.replace("ARCHITECTURE", str(folder / "two.yaml"))
    landscape = landscape_of(search_of(text.replace("OBJECTIVES", objectives)))
    assert isinstance(landscape, TrainedLandscape)
    return landscape


def test_state_throughput_and_time_are_what_a_hand_count_says(tmp_path: Path) -> None:
    landscape = opened(tmp_path, "[val_accuracy, state_bytes_per_token, tokens_per_s]")
    row = landscape.space.codes([{"wide.kv_heads": KV, "mlp.use": "mlp"}])
    length = landscape.task.length
    _, state_bytes, tokens_per_s = landscape.prices(row)[0]
    one = WIDTH // HEADS * 4  # a head's numbers in float32
    wide, near = 2 * KV * one * length, LAYERS * 2 * HEADS * one * WINDOW
    assert state_bytes == (wide + near) / length
    times = opened(tmp_path, "[val_accuracy, train_s, peak_bytes]").prices(row)[0]
    assert tokens_per_s == pytest.approx(4 * length * 50 / times[1])
    assert landscape.objectives[2].direction == "maximize"


def test_the_peak_of_a_pass_forward_is_that_of_a_real_one(tmp_path: Path) -> None:
    landscape = opened(tmp_path, "[val_accuracy, peak_inference_bytes, peak_bytes]")
    design = {"wide.kv_heads": 4, "mlp.use": "swiglu"}
    _, forward, step = landscape.prices(landscape.space.codes([design]))[0]
    fitted = fit(landscape.architecture(design), landscape.task)
    model = build(fitted, landscape.task.input_type(), seed=0).eval()
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    x = landscape.task.train_batch(0, 4, 0).inputs
    allocated, most = 0, 0
    with torch.profiler.profile(profile_memory=True) as measured, torch.no_grad():
        model(x)
    for event in sorted(measured.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()
            most = max(most, allocated)
    assert forward < step
    assert forward - weights == pytest.approx(most, rel=0.1)


def test_energy_is_refused_where_nothing_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = SimpleNamespace(sources=(), not_measured=(NotMeasured("energy", "there is no RAPL"),))
    monkeypatch.setattr(goals, "energy_account", lambda device: absent)
    with pytest.raises(SpecError) as caught:
        opened(tmp_path, "[val_accuracy, joules_per_sample]")
    (problem,) = caught.value.problems
    assert problem.path == "objectives[1]" and "no meter of it works" in problem.message
    assert "there is no RAPL" in problem.got


@pytest.fixture
def metered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainedLandscape:
    """A space with energy among its objectives, on a machine that seems to have a meter."""
    there = SimpleNamespace(sources=("RAPL",), not_measured=())
    monkeypatch.setattr(goals, "energy_account", lambda device: there)
    return opened(tmp_path, "[joules_per_sample, val_accuracy, peak_bytes]")


def test_energy_goes_with_what_it_was_spent_on(metered: TrainedLandscape, tmp_path: Path) -> None:
    assert [one.name for one in metered.objectives][-1] == "joules_per_sample"
    assert metered.objectives[-1].source == "measured"
    row = metered.space.codes(metered.hand_designs()[:1])[0]
    told = metered.finished(row, {"val_accuracy": 0.5}, {"joules_per_sample": 2.5})
    assert told.values == (0.5, metered.prices(row[None])[0][1], 2.5)
    lost = {"joules_per_sample": None, "not_measured": "the counter went away"}
    assert "the counter went away" in metered.finished(row, {"val_accuracy": 0.5}, lost).reason
    with pytest.raises(SpecError, match="val_accuracy, which has to be an objective too"):
        opened(tmp_path, "[joules_per_sample, peak_bytes]")


def test_halving_and_the_sampler_know_which_value_is_measured(metered: TrainedLandscape) -> None:
    study = open_study(metered, make_sampler("cost_aware", metered))
    for number in range(6):
        trial = ask(study, metered)
        row = mended_row(metered, trial)
        price = metered.prices(row[None])[0]
        trial.set_user_attr(PRICES, [None if np.isnan(one) else float(one) for one in price])
        trial.set_user_attr(RUNGS, {"5": 0.1 * number})
        told = metered.finished(row, {"val_accuracy": 0.1 * number + 0.2}, {"joules_per_sample": 1})
        tell(study, metered, trial, told if number else Outcome(reason="cut", stopped=True))
    points, numbers = at_rung(study.trials, 5, np.array([-1.0, 1.0, 1.0]))
    assert numbers == list(range(6)) and (points[:, 2] == 0).all()
    assert points[:, 0].tolist() == pytest.approx([-0.1 * number for number in range(6)])
    (short,), values = foreseen(study.trials)
    assert short.number == 0 and values[0, 0] == pytest.approx(0.2) and np.isnan(values[0, 2])
    assert len(completed(study)) == 5 and ask(study, metered).params


def test_times_are_told_by_the_clock_alone(tmp_path: Path) -> None:
    names = "[measured_step_ms, step_ms, val_accuracy, measured_latency_ms]"
    landscape = opened(tmp_path, names)
    assert [(one.name, one.source) for one in landscape.objectives] == [
        ("step_ms", "predicted"),
        ("val_accuracy", "measured"),
        ("measured_step_ms", "measured"),
        ("measured_latency_ms", "measured"),
    ]
    assert landscape.timed == ("measured_step_ms", "measured_latency_ms")
    row = landscape.space.codes(landscape.hand_designs()[:1])[0]
    assert np.isnan(landscape.prices(row[None])[0]).tolist() == [False, True, True, True]
    times = {"measured_step_ms": 2.5, "measured_latency_ms": 0.5}
    told = landscape.finished(row, {"val_accuracy": 0.5}, None, times)
    assert told.values[1:] == (0.5, 2.5, 0.5)
    lost = landscape.finished(row, {"val_accuracy": 0.5, "measured_step_ms": 9.0})
    assert lost.reason == "its training told no measured_step_ms"
    with pytest.raises(SpecError, match="val_accuracy, which has to be an objective too"):
        opened(tmp_path, "[measured_latency_ms, peak_bytes]")
    with pytest.raises(SpecError, match="measured_tokens_per_s is measured_step_ms said another"):
        opened(tmp_path, "[val_accuracy, measured_step_ms, measured_tokens_per_s]")
