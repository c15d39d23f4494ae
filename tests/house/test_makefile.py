"""`make app` says in one sentence what is missing, and installs once."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a person does, even where `make test` runs these tests."""
    assert MAKE is not None
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    return subprocess.run(
        [MAKE, "--no-print-directory", "-C", str(TOP), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in outer},
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said, without make's own last word that a target failed."""
    said = (done.stdout + done.stderr).splitlines()
    return [line for line in said if line and not line.startswith("make:")]


@pytest.mark.parametrize("goal", ["app", "test", "check"])
def test_without_python_one_sentence_says_so(goal: str, tmp_path: Path) -> None:
    done = make(goal, f"VENV={tmp_path / 'venv'}", "PYTHON=")
    assert done.returncode != 0
    (said,) = sentences(done)
    assert "Python 3.11" in said and "apt install" in said


def test_without_venv_one_sentence_says_so(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named ensurepip' >&2\nexit 1\n")
    python.chmod(0o755)
    done = make("app", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    assert done.returncode != 0
    (said,) = sentences(done)
    assert "apt install python3-venv" in said
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    new = tmp_path / "python3.11"
    new.write_text("#!/bin/sh\nexit 0\n")
    new.chmod(0o755)
    done = subprocess.run(
        [str(MAKE), "-C", str(TOP), "-n", "app", f"VENV={tmp_path / 'venv'}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=60,
        check=False,
    )
    used = [line for line in done.stdout.splitlines() if "-m venv" in line]
    assert used and not any(line.strip().startswith("python3 -m") for line in used)


def test_a_second_start_installs_nothing(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "python").write_text("")
    (binaries / "python").chmod(0o755)
    assert "pip install" in make("-n", "app", f"VENV={tmp_path}").stdout
    stamp = tmp_path / ".app-installed"
    stamp.touch()
    again = make("-n", "app", f"VENV={tmp_path}").stdout
    assert "pip install" not in again
    assert "hybridlab app" in again
    long_ago = time.time() - 10 * 365 * 24 * 3600
    os.utime(stamp, (long_ago, long_ago))
    assert "pip install" in make("-n", "app", f"VENV={tmp_path}").stdout


def test_every_goal_is_explained() -> None:
    text = (TOP / "Makefile").read_text(encoding="utf-8")
    (phony,) = [line for line in text.splitlines() if line.startswith(".PHONY:")]
    shown = make("help").stdout
    for goal in set(phony.split()[1:]) - {"help", "dev", "python"}:
        assert f"make {goal} " in shown
