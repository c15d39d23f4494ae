"""Training from the command line: the contract's keys, Ctrl-C, resume, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hybridlab.cli import follow
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store
from tests.cli.conftest import Said

Cli = Callable[..., Said]
TEXT = "name: tiny\nwidth: 8\nnodes:\n  - {use: gru}\n"
QUICK = ("--task", "parity", "--batch", "4", "--set", "task_params.length=8")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT)
    return str(file)


@pytest.mark.slow
def test_a_run_gives_what_the_contract_says(cli: Cli, tiny: str) -> None:
    said = cli("train", tiny, *QUICK, "--steps", "12", "--seed", "3", "--threads", "1", "--json")
    assert said.code == 0, said.err
    wanted = {"run", "state", "steps", "seconds", "metrics", "weights_sha256"}
    assert wanted <= set(said.json)
    assert said.json["state"] == "DONE"
    assert said.json["steps"] == 12
    assert "test_accuracy" in said.json["metrics"]
    assert said.err.splitlines()[0] == f"run: {said.json['run']}"
    run = open_store().get(said.json["run"])
    assert run.spec["training"]["seed"] == 3
    assert run.spec["architecture"] == TEXT
    assert run.threads == 1
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(run_folder(run.id) / "weights.safetensors").items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == said.json["weights_sha256"]
    assert said.json["run"] in cli("runs").out


@pytest.mark.slow
def test_ctrl_c_stops_with_a_checkpoint_and_resume_goes_on(cli: Cli, tiny: str, home: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from hybridlab.cli import main; main()",
        "train",
        tiny,
        *QUICK,
    ]
    command += ["--steps", "600", "--set", "eval_every=600", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HYBRIDLAB_HOME": str(home)},
        start_new_session=True,
        # Whoever runs the tests in the background has the signal ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    run_id = process.stderr.readline().removeprefix("run: ").strip()
    deadline = time.monotonic() + 120
    while open_store().get(run_id).step < 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    stopped = json.loads(out.splitlines()[-1])
    assert process.returncode == 130
    assert stopped["state"] == "CANCELLED"
    assert "Traceback" not in err
    at = open_store().get(run_id).step
    assert 20 <= at < 600
    resumed = cli("runs", "resume", run_id, "--json")
    assert resumed.code == 0
    assert resumed.json["state"] == "DONE"
    assert resumed.json["steps"] == 600
    told = re.search(r"checkpoint of step ([\d,]+)", cli("runs", "log", run_id).out)
    assert told is not None
    assert 20 <= int(told[1].replace(",", "")) <= at
    assert cli("runs", "resume", run_id, "--json").code == 2


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ((), "--task"),
        (("--task", "party"), "task"),
        (("--task", "parity", "--steps", "0"), "steps"),
        (("--task", "parity", "--set", "stops=3"), "stops"),
        (("--task", "parity", "--set", "betas=[0.9, 2]"), "betas[1]"),
        (("--task", "parity", "--set", "novalue"), "--set"),
        (("--task", "parity", "--set", "learning_rate=.nan"), "learning_rate"),
        (("--task", "parity", "--set", "task_params.size=3"), "task_params.size"),
        (("--task", "parity", "--device", "cuda:99"), "device"),
        (("--task", "parity", "--threads", "0"), "threads"),
        (("--task", "parity", "--also-alone"), "--also-alone"),
        (("--task", "parity", "--set", "teacher.run=latest:nobody"), "teacher.run"),
        (("--training", "/no/such/file.yaml"), "/no/such/file.yaml"),
    ],
)
def test_wrong_settings_are_told_before_anything_starts(
    cli: Cli, tiny: str, options: tuple[str, ...], path: str
) -> None:
    said = cli("train", tiny, *options, "--json")
    assert said.code == 2
    assert path in [error["path"] for error in said.json["errors"]]
    assert cli("runs", "--json").json == []


def test_a_settings_file_is_read_and_options_win(cli: Cli, tiny: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("task: parity\nsteps: 0\nlearning_rate: oops\n")
    said = cli("train", tiny, "--training", str(file), "--steps", "5", "--json")
    assert [error["path"] for error in said.json["errors"]] == ["learning_rate"]


def test_an_image_model_is_not_trained_on_text(cli: Cli) -> None:
    said = cli("train", "conv_attention_image", "--task", "python_bytes", "--json")
    assert said.code == 2
    assert said.json["errors"][0]["fix"]


def test_a_failed_run_is_a_failure(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_store().create("train", "x", {}, home=home_id())
    failed = replace(run, state=RunState.FAILED, error="the loss is not finite at step 7")
    assert follow.finish(failed, json=True) == 1
    out, err = capsys.readouterr()
    assert "not finite" in json.loads(out)["errors"][0]["message"]
    assert f"hybridlab runs resume {run.id}" in err
