"""The app as a process from any folder, and the doctor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridlab.components.registry import palette
from hybridlab.hardware import ceilings
from hybridlab.workflows import doctor
from tests.cli.conftest import Said

Cli = Callable[..., Said]


def test_the_doctor_tells_what_it_is_on_and_what_was_checked(cli: Cli, home: Path) -> None:
    said = cli("doctor", "--json")
    assert said.code == 0
    assert said.json["torch"] == torch.__version__
    assert said.json["device"] in {entry["name"] for entry in said.json["devices"]}
    assert said.json["runs"]["home"] == str(home)
    assert {check["name"] for check in said.json["checks"]} == set(palette())
    assert said.json["ok"] is True
    speeds = said.json["ceilings"]
    assert "float32" in speeds["flops_per_s"]
    assert speeds["bandwidths"][-1]["level"] == "memory"
    assert speeds["seconds"] < 30
    assert said.json["published"]["label"] == "published by the maker, not measured here"
    assert said.json["published"]["table"]
    meters = said.json["meters"]
    assert "each core of the machine" in [one["quantity"] for one in meters["measured"]]
    assert all(one["reason"] for one in meters["not_measured"])
    started = time.perf_counter()
    again = cli("doctor", "--json")
    assert again.json["ceilings"]["measured_at"] == said.json["ceilings"]["measured_at"]
    assert time.perf_counter() - started < said.json["ceilings"]["seconds"] + 5
    assert set(said.json["gpu_kernels"]) == {"mamba-ssm", "causal-conv1d", "fla, RWKV-7"}
    told = cli("doctor").out
    assert f"{len(palette())} of {len(palette())} components" in told
    assert said.json["gpu_kernels"]["mamba-ssm"] in " ".join(told.split())
    pools = said.json["memory_pools"]
    assert (pools["ok"] is None) == (said.json["device"] == "cpu")
    assert "memory pools" in told and pools["message"]


def test_a_component_that_fails_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceilings.keep(home, ceilings.measure(seconds_each=0.001))  # its speed is not asked for here

    def fail(*inputs: object) -> None:
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(palette()["lstm"].cls, "forward", fail)
    checked = doctor.check_component(palette()["lstm"], torch.device("cpu"))
    assert not checked.ok
    assert checked.message == "RuntimeError: no kernel image is available"
    said = cli("doctor", "--json")
    assert said.code == 1
    assert [check["name"] for check in said.json["checks"] if not check["ok"]] == ["lstm"]


def test_values_that_are_not_finite_are_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = palette()["mlp"].cls
    whole = cls.forward
    monkeypatch.setattr(cls, "forward", lambda self, x: whole(self, x) / 0)
    assert not doctor.check_component(palette()["mlp"], torch.device("cpu")).ok


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(palette()))
def test_an_accelerator_agrees_with_the_cpu(name: str) -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    checked = doctor.check_component(palette()[name], device)
    assert checked.ok, checked.message
    assert checked.difference is not None


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from hybridlab.cli import main; main()", "app", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HYBRIDLAB_HOME": str(tmp_path / "home")},
        start_new_session=True,
    )


def test_the_app_starts_in_any_folder_and_says_where(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(tmp_path, "--port", str(port), "--json")
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["url"] == f"http://localhost:{port}"
        health = ""
        deadline = time.monotonic() + 60
        while health != "ok" and time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{said['url']}/_stcore/health", timeout=2) as answer:
                    health = answer.read().decode()
            except OSError:
                time.sleep(0.2)
        assert health == "ok"
        second = start(tmp_path, "--port", str(port), "--json")
        out, err = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"--port {port + 1}" in json.loads(out)["errors"][0]["fix"]
        assert "Traceback" not in err
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert out == "", "after the one line of JSON nothing more goes to stdout"
    assert "Traceback" not in err


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path, "--address", "203.0.113.7", "--json")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot listen" in json.loads(out)["errors"][0]["message"]
