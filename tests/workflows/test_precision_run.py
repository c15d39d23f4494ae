"""The workflow that measures formats: what it reads of a record, what it leaves, and training with what it chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError, SpecError
from hybridlab.planning import turns
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.precision.record import Precisions
from hybridlab.planning.training_step import check_planned, recipe
from hybridlab.tasks.registry import fit
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import predict_stream, record
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import make
from hybridlab.workflows import precision_run, train
from hybridlab.workflows.as_trained import arranged, as_trained
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.profile import training_step
from tests.workflows.test_fusion_run import TRAINING, Context
from tests.workflows.test_train import Context as Trained

DESIGN = "name: small\nwidth: 16\nnodes:\n  - {id: a, use: attention, heads: 2}\n  - {id: f, use: swiglu}\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step take 1 ms: nothing here asks for times."""
    monkeypatch.setattr(turns, "run_ms", lambda step: 1.0)


@pytest.mark.usefixtures("quick")
def test_formats_are_measured_and_kept(tmp_path: Path) -> None:
    more = {"for": "memory", "options": {"format": "bfloat16", "tolerance": 0.1}}
    settings = {**TRAINING, "batch": 64}
    context = Context(tmp_path, architecture=DESIGN, training=settings, **more)
    result = precision_run.run(context)  # type: ignore[arg-type]
    assert context.told == [(done, 4) for done in range(5)]
    found = json.loads((tmp_path / precision_run.FILE).read_text())
    precisions = Precisions.read(found["precisions"])
    assert precisions.training and found["memory"] and found["tolerance"] == 0.1
    assert found["applied"] is result["applied"] is True and {"a", "f"} <= set(precisions.formats)
    assert prepared(DESIGN, settings | {"precisions": found["precisions"]})


def test_a_record_that_is_not_right_is_refused(tmp_path: Path) -> None:
    for wrong in ({"for": "fun"}, {"options": {"rounds": 3}}, {"options": 3}):
        with pytest.raises(RunError, match="the run's record has"):
            precision_run.run(Context(tmp_path, **wrong))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="format: is unknown"):
        precision_run.run(Context(tmp_path, options={"format": "int8"}))  # type: ignore[arg-type]
    several = {**TRAINING, "stages": [{"name": "a", "until": 3}, {"name": "b"}]}
    with pytest.raises(SpecError, match="is not measured: the model changes"):
        precision_run.run(Context(tmp_path, training=several))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="take out precisions, or stages"):
        make({**several, "precisions": {}})


def chosen(**more: Any) -> Precisions:
    task, spec = prepare(TRAINING)
    model = build(fit(loads(DESIGN), task), task.input_type(), seed=spec.seed)
    return Precisions(
        fingerprint=model.architecture.fingerprint,
        training=True,
        device="cpu",
        formats={"a": "bfloat16", "f": "bfloat16"},
        **more,
    )


def test_a_mixed_training_learns_nearly_the_same(tmp_path: Path) -> None:
    settings = {**TRAINING, "steps": 4, "eval_every": 4, "checkpoint_every": 4}
    weights = []
    for name, more in (("plain", {}), ("mixed", {"precisions": chosen().as_dict()})):
        folder = tmp_path / name
        context: Any = Trained(folder, {"architecture": DESIGN, "training": settings | more})
        train.run(context)
        (file,) = folder.glob("weights*.safetensors")
        weights.append(load_file(file))
    plain, mixed = weights
    assert list(plain) == list(mixed)
    assert all(one.dtype is torch.float32 for one in mixed.values())
    assert any(not torch.equal(one, mixed[key]) for key, one in plain.items())  # it did run so
    for key, one in plain.items():
        assert torch.allclose(one, mixed[key], rtol=5e-2, atol=5e-3), key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "x"}, "another architecture"),
        ({"training": False}, "made for inference"),
        ({"device": "cuda"}, "another kind of device"),
        ({"within": "bfloat16"}, "set precision to bfloat16"),
        ({"formats": {"b": "bfloat16"}}, r"formats\.b: is no component"),
        ({"formats": {"a": "float64"}}, r"precisions\.formats\.a"),
    ],
)
def test_precisions_that_do_not_fit_are_refused_before_a_run(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        prepared(DESIGN, {**TRAINING, "precisions": chosen().as_dict() | change})


def test_what_is_measured_stands_together_or_is_refused() -> None:
    precisions = chosen()
    settings = {**TRAINING, "precisions": precisions.as_dict()}
    with pytest.raises(SpecError, match="precisions: is not planned"):
        check_planned(make(settings))
    both = Fusion(
        fingerprint=precisions.fingerprint,
        training=True,
        products=(("root.a.body.project_in", "root.f.body.project_in"),),
    )
    assert prepared(DESIGN, settings | {"fusion": both.as_dict()})
    apart = precisions.as_dict() | {"formats": {"a": "bfloat16"}}
    with pytest.raises(RunError, match="what the fusion computes as one product: a, f"):
        prepared(DESIGN, settings | {"fusion": both.as_dict(), "precisions": apart})


def test_one_time_for_all_is_no_reason_to_keep_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps: list[TrainingStep] = []
    monkeypatch.setattr(turns, "run_ms", lambda step: steps.append(step) or 1.0)
    context = Context(tmp_path, architecture=DESIGN, **{"for": "training"})
    result = precision_run.run(context)  # type: ignore[arg-type]
    assert steps and result == {"applied": False, "ratio": 1.0, "busy": result["busy"]}


def test_what_a_mixed_step_takes_is_predicted_as_it_is_measured() -> None:
    settings = {**TRAINING, "batch": 64}
    task, _ = prepare(settings)
    design = fit(loads(DESIGN), task)
    peaks = []
    for more in ({}, {"precisions": chosen().as_dict()}):
        _, spec = prepare(settings | more)
        model = build(design, task.input_type(), seed=0)
        as_trained(model, spec)
        step = training_step(model, task, spec)
        step.run(Attribution({}))
        measured = record(step, "measured")
        predicted = predict_stream(
            design,
            task.input_type(),
            batch=spec.batch,
            length=task.length,
            recipe=recipe(task, spec, step.kept),
            arrange=arranged(spec),
        )
        assert predicted.peak_bytes == pytest.approx(measured.peak_bytes, rel=0.01)
        peaks.append(measured.peak_bytes)
    assert peaks[1] < 0.9 * peaks[0]
