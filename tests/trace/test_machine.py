"""What predictions of times go by: every process of a home goes by the same figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybridlab.trace import machine

CODE = "from hybridlab.trace.machine import this_cpu; print(repr(this_cpu()))"


def test_two_processes_at_once_go_by_one_quick_measurement(tmp_path: Path) -> None:
    environment = {**os.environ, "HYBRIDLAB_HOME": str(tmp_path / "home")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert said[0] == said[1] != ""


def test_an_old_quick_measurement_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    first = machine._quick(1)
    assert machine._quick(1) == first
    monkeypatch.setattr(machine, "_QUICK_HOLDS_S", 0.0)
    assert machine._quick(1).measured_at > first.measured_at


def test_a_home_that_cannot_be_written_costs_only_the_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    assert machine._quick(1).call_s > 0
