"""Training with early exits, and what they are worth afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.tasks.registry import fit, task
from hybridlab.training.defaults import prepare
from hybridlab.training.exits import score_exits
from hybridlab.training.loop import train

TEXT = """
name: exits
width: 16
nodes:
  - {use: mlp}
  - {id: early, use: early_exit, outputs: 10, threshold: 0.35, loss_weight: 1.0}
  - {use: short_conv}
  - {use: mlp}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> GraphModel:
    settings = {"task": "digits_image", "steps": 200, "batch": 32, "eval_every": 200}
    digits, spec = prepare(settings | {"learning_rate": 1e-2})
    model = build(fit(loads(TEXT), digits), digits.input_type(), seed=0)
    train(model, digits, spec, folder=tmp_path_factory.mktemp("run"))
    return model


def test_exits_learn_and_save_work(trained: GraphModel) -> None:
    digits = task("digits_image")
    found = score_exits(trained, digits, "val", torch.device("cpu"))
    early, last = found.ways
    assert early.path == "early" and last.path == "classifier"
    assert early.value > 0.4, "an exit without a loss would stay near 0.1"
    assert early.share + last.share == pytest.approx(1) and 0 < early.share < 1
    assert 0 < early.flops < last.flops
    assert found.flops == pytest.approx(early.share * early.flops + last.share * last.flops)
    assert early.flops < found.flops < last.flops


def test_the_model_as_it_runs_scores_what_is_said(trained: GraphModel, tmp_path: Path) -> None:
    digits = task("digits_image")
    said = score_exits(trained, digits, "val", torch.device("cpu"))
    trained.eval()
    right = answers = left = samples = 0
    with torch.no_grad():
        for batch in digits.evaluation("val"):
            right += float(digits.score(trained(batch.inputs), batch))
            answers += int(batch.mask.sum())
            left += trained.left()["early"]
            samples += len(batch.inputs)
    assert said.value == pytest.approx(right / answers)
    assert said.ways[0].share == pytest.approx(left / samples)
