"""Settings: read, checked, laid over a task's defaults; the schedule and the optimiser that follow from them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridlab.errors import DeviceError, HybridLabError, SpecError
from hybridlab.places import sample_configs
from hybridlab.tasks.registry import task, tasks
from hybridlab.training.defaults import prepare
from hybridlab.training.optimiser import adamw, clip, decayed, gradient_norm
from hybridlab.training.precision import numerics
from hybridlab.training.schedule import learning_rate
from hybridlab.training.spec import TrainSpec, make, read_settings
from tests.tasks.conftest import OF_SERIES, WITH_SERIES
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]


def test_the_spec_does_not_import_torch() -> None:
    code = "import sys, hybridlab.training.spec, hybridlab.training.result; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_setting_says_what_it_is() -> None:
    for name, field in TrainSpec.model_json_schema()["properties"].items():
        assert field["description"].endswith("."), name


def test_a_spec_survives_json() -> None:
    spec = make(
        {"task": "parity", "betas": [0.8, 0.99], "target": 0.5, "task_params": {"length": 4}}
    )
    assert make(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize("name", sorted(tasks()))
def test_every_task_has_defaults_that_are_settings(name: str) -> None:
    made, spec = prepare({"task": name, "seed": 3})
    assert made.name == spec.task == name and spec.seed == 3
    for key, value in made.default_training().items():
        assert getattr(spec, key) == value


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stepz": 1}, "did you mean 'steps'"),
        ({"steps": 0}, "steps: is out of range"),
        ({"steps": 2.5}, "steps: has the wrong type"),
        ({"batch": True}, "batch"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"learning_rate": 0}, "more than 0"),
        ({"betas": [0.9, 1.0]}, "betas[1]"),
        ({"schedule": "square"}, "schedule: is not one of the choices"),
        ({"device": "../x"}, "device"),
        ({"seed": -1}, "seed"),
        ({"accumulation": 9, "batch": 8}, "accumulation 9 is more than the batch of 8 samples"),
        ({"task": 3}, "task"),
        ({"task_params": 3}, "task_params"),
        ({"task_params": {"length": -1}}, "task_params.length"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(HybridLabError) as caught:
        prepare({"task": "parity", **wrong})
    assert words in str(caught.value)


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        make({"task": "parity", "steps": 0, "batch": 0, "nonsense": 1})
    assert {problem.path for problem in caught.value.problems} == {"steps", "batch", "nonsense"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", "does not hold settings"),
        ("a: [", "is not YAML"),
        ("", "does not hold settings"),
        ("{1: 2}", "settings"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words):
        read_settings(path)
    with pytest.raises(SpecError, match="cannot be read"):
        read_settings(tmp_path / "absent.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="is not YAML"):
        read_settings(path)
    path.write_text("# " + "x" * 70_000)
    with pytest.raises(SpecError, match="too large"):
        read_settings(path)


def test_the_sample_settings_are_there() -> None:
    files = sorted((sample_configs() / "training").glob("*.yaml"))
    assert len(files) >= 2
    for path in files:
        settings = read_settings(path)
        if settings["task"] in OF_SERIES and not WITH_SERIES:
            continue
        _, spec = prepare(settings)
        assert spec.task in tasks()


def test_warm_up_is_a_line_and_the_cosine_ends_where_it_should(settings: Settings) -> None:
    spec = settings(steps=110, warmup_steps=10, learning_rate=2.0, final_rate=0.1)
    rates = [learning_rate(spec, step) for step in range(110)]
    assert rates[:10] == pytest.approx([2.0 * (step + 1) / 10 for step in range(10)])
    assert rates[59] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5)), "half way down the cosine"
    assert rates[-1] == pytest.approx(0.2)
    assert all(later <= sooner for sooner, later in pairwise(rates[9:]))


def test_a_constant_rate_stays_and_no_warm_up_starts_at_the_peak(settings: Settings) -> None:
    constant = settings(schedule="constant", warmup_steps=0, learning_rate=0.5, steps=4)
    assert [learning_rate(constant, step) for step in range(4)] == [0.5] * 4
    cosine = settings(warmup_steps=0, learning_rate=0.5, steps=1, final_rate=0.2)
    assert learning_rate(cosine, 0) == pytest.approx(0.1)
    assert learning_rate(settings(warmup_steps=50, steps=4, learning_rate=1.0), 3) == 1.0


def test_decay_spares_vectors_embeddings_and_marked_parameters(tiny: Tiny) -> None:
    model = tiny(task("parity", length=8), "use: mamba2, state: 4, heads: 2", "use: lstm")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with_decay, without = ({names[id(p)] for p in group} for group in decayed(model))
    assert with_decay | without == set(names.values()) and not with_decay & without
    spared = {name.rsplit(".", 1)[-1] for name in without}
    assert {"bias_ih_l0", "weight"} <= spared
    assert any("token_embedding" in name for name in without)
    assert all(model.get_parameter(name).ndim >= 2 for name in with_decay)
    assert not any("norm" in name or name.endswith("a_log") for name in with_decay)


def test_marked_matrices_are_spared() -> None:
    model = nn.Linear(3, 3)
    model.weight._no_weight_decay = True  # type: ignore[assignment]
    assert decayed(model)[0] == []
    optimiser = adamw(model, make({"task": "parity", "weight_decay": 0.5}))
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.0]


def test_clipping_keeps_the_direction_and_the_norm() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    norm = gradient_norm([parameter])
    assert float(norm) == pytest.approx(5.0)
    clip([parameter], norm, 0.0)
    clip([parameter], norm, 6.0)
    assert parameter.grad.tolist() == [3.0, 4.0]
    clip([parameter], norm, 1.0)
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)


def test_precision_follows_device_and_wish(settings: Settings) -> None:
    assert numerics(settings(precision="float32")).dtype is None
    assert numerics(settings(precision="bfloat16")).dtype is torch.bfloat16
    assert numerics(settings(device="cpu")).dtype is None, "auto is float32 on a CPU"
    with pytest.raises(DeviceError, match="does not train in float16"):
        numerics(settings(precision="float16"))
    with pytest.raises(DeviceError, match="device"):
        numerics(settings(device="cuda:99"))


def test_gates_scales_and_positions_of_the_palette_are_spared(tiny: Tiny) -> None:
    model = tiny(
        task("digits_image"),
        "use: patch_embedding, patch: 2, positions: learned",
        "id: a, use: attention, heads: 2, causal: false",
        "id: b, use: mlp, inputs: [patch_embedding]",
        "use: gated_sum, inputs: [a, b]",
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = " ".join(names[id(parameter)] for parameter in decayed(model)[0])
    assert "project" in decayed_names
    for spared in ("gates", "scales", "positions", "norm"):
        assert spared in " ".join(names.values())
        assert spared not in decayed_names
