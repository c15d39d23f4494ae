"""Every preset and every sample of training settings trains."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import Entry, presets
from hybridlab.architecture.model import build
from hybridlab.errors import HybridLabError
from hybridlab.places import sample_configs
from hybridlab.tasks.registry import fit, task
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.spec import read_settings
from hybridlab.training.teacher_spec import LATEST
from tests.tasks.conftest import OF_SERIES, WITH_SERIES
from tests.training.conftest import Finished

SHORT = {
    "steps": 20,
    "batch": 4,
    "eval_every": 20,
    "checkpoint_every": 20,
    "warmup_steps": 2,
    "device": "cpu",
}


def _task_for(entry: Entry) -> str:
    try:
        fit(loads(entry.text()), task("mqar"))
    except HybridLabError:
        return "digits_image"
    return "mqar"


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
def test_every_preset_trains_twenty_steps(entry: Entry, tmp_path: Path) -> None:
    name = _task_for(entry)
    params = {"pairs": 2, "length": 16, "vocab": 16} if name == "mqar" else {}
    what, spec = prepare({"task": name, "task_params": params, **SHORT, "learning_rate": 5e-3})
    model = build(fit(loads(entry.text()), what), what.input_type(), seed=0)
    losses: list[float] = []
    result = train(
        model,
        what,
        spec,
        folder=tmp_path,
        on_metrics=lambda step, values: losses.append(values["loss"]) if "loss" in values else None,
    )
    assert result.steps == 20 == len(losses)
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-5:]) < sum(losses[:5]), "twenty steps taught it nothing"


@pytest.mark.parametrize(
    "path", sorted((sample_configs() / "training").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_sample_of_settings_trains(path: Path, tmp_path: Path, finished: Finished) -> None:
    settings = read_settings(path)
    if settings["task"] in OF_SERIES and not WITH_SERIES:
        pytest.skip("sktime's files are not installed")
    stages = [dict(stage) for stage in settings.get("stages", ())]
    for stage in stages[:-1]:
        stage["until"] = 1
    steps = max(2, len(stages))
    changed = {"stages": stages, "steps": steps, "eval_every": steps, "device": "cpu"}
    what, spec = prepare({**settings, **changed})
    if spec.teacher is not None and spec.teacher.run is not None:
        name = spec.teacher.run.removeprefix(LATEST)
        finished(what, "use: attention, heads: 2", "use: attention, heads: 2", name=name)
    mixers = "{use: attention, heads: 2}, {use: mamba2, heads: 2, head_dim: 4, state: 4}"
    nested = (
        f"  - {{id: stage, nodes: [{mixers}]}}"
        if stages
        else "".join(f"  - {node}\n" for node in mixers.replace("}, {", "}|{").split("|"))
    )
    small = loads(f"name: x\nwidth: 8\nnodes:\n{nested}\n")
    model = build(fit(small, what), what.input_type(), seed=0)
    assert train(model, what, spec, folder=tmp_path).steps == steps
