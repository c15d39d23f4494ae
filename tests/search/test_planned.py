"""A plan's budget as a choice: priced as the planner does, unmet ones mended, learnt the same, kept with its trial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridlab.errors import SpecError
from hybridlab.planning.record import Budget, Plan
from hybridlab.planning.training_step import plan_step
from hybridlab.search.opening import landscape_of
from hybridlab.search.spec import search_of
from hybridlab.search.trained import TrainedLandscape
from hybridlab.tasks.registry import fit

DESIGN = """
name: small
width: 16
nodes:
  - id: stage
    repeat: 4
    nodes:
      - {id: mix, use: attention, heads: 2}
      - {use: mlp}
"""
SEARCH = """
name: tiny
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 16, longer: 16}, steps: 3, batch: 32, warmup_steps: 1, device: cpu}
search:
  plan: [none, 80%, 60%, 1KiB]
  stage.mix: {heads: [2, 4]}
objectives: [val_accuracy, peak_bytes, step_ms]
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(DESIGN)
    return SEARCH.replace("ARCHITECTURE", str(tmp_path / "small.yaml"))


GROWING = "stages: [{name: small, until: 1}, {name: large, grow: {stage: 1}}]"


def opened(text: str) -> TrainedLandscape:
    landscape = landscape_of(search_of(text))
    assert isinstance(landscape, TrainedLandscape)
    return landscape


def test_plans_are_priced_as_the_planner_does(text: str) -> None:
    landscape = opened(text)
    space = landscape.space
    assert space.size == 8 and space.choices[0].values == ("none", "80%", "60%", "1KiB")
    assert {"plan": "60%", "stage.mix.heads": 2} in landscape.hand_designs()
    rows = space.codes(
        [{"plan": budget, "stage.mix.heads": 2} for budget in space.choices[0].values]
    )
    values = landscape.prices(rows)
    assert np.isinf(values[3]).all(), "no plan of it fits 1 KiB"
    assert space.design(landscape.repaired(rows[3:])[0])["plan"] == "60%", "the nearest that can be"
    peaks, times = values[:3, 1], values[:3, 2]
    assert (np.diff(peaks) < 0).all() and (np.diff(times) > 0).all()
    fitted = fit(landscape.architecture(space.design(rows[0])), landscape.task)
    made = plan_step(fitted, landscape.task, landscape.training, measure=False, threads=1)
    assert peaks[0] == made.plain.peak_bytes
    for row, share, peak in zip(rows[1:], (0.8, 0.6), peaks[1:], strict=False):
        best = made.best(Budget(share=share))
        assert peak == best.predicted.peak_bytes <= share * peaks[0]
        kept = Plan.read(landscape.decided(row)["plan"])
        assert kept.recompute == best.recompute and kept.device == "cpu"
    assert "plan" not in landscape.decided(rows[0])


def test_what_is_learnt_is_the_same(text: str) -> None:
    landscape = opened(text)
    space = landscape.space
    rows = space.codes([{"plan": one, "stage.mix.heads": 4} for one in ("none", "60%")])
    plain, planned = (landscape.measure(row, seed=1) for row in rows)
    assert not plain.reason and plain.values[0] == planned.values[0]
    assert plain.values[1] > planned.values[1]
    one, other = (landscape.architecture(space.design(row)) for row in rows)
    assert one == other


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("step_ms]", "flops_step]", "predicted of the step without a plan"),
        ("steps: 3,", f"steps: 3, {GROWING},", "is not planned"),
    ],
)
def test_what_no_plan_can_be_made_for_is_told(text: str, old: str, new: str, words: str) -> None:
    assert old in text
    with pytest.raises(SpecError) as caught:
        opened(text.replace(old, new))
    assert words in str(caught.value)
