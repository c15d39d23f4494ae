"""A wheel built from this tree, installed elsewhere, runs from any folder: the app and the presets travel with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(TOP)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("hybridlab-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files and nothing else; dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], timeout=300, check=True)
    return folder


def environment(installed: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "HYBRIDLAB_HOME": str(home)}


def test_everything_travels(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "app.py": "hybridlab/_app/app.py",
        ".streamlit/config.toml": "hybridlab/_app/.streamlit/config.toml",
    }
    for folder in ("pages", "sample_configs"):
        for path in (TOP / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                name = path.relative_to(TOP).as_posix()
                expected[name] = f"hybridlab/_app/{name}"
    for path in (TOP / "hybridlab").rglob("*"):
        # The canvas's front-end sources stay behind; what they are built into travels.
        if path.is_file() and not {"__pycache__", "frontend"} & set(path.parts):
            name = path.relative_to(TOP).as_posix()
            expected[name] = name
    missing = {name for name, inside in expected.items() if inside not in names}
    assert not missing
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_its_command_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(installed / "bin" / "hybridlab"), "presets", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(installed, tmp_path / "home"),
        timeout=120,
        check=True,
    )
    entries = json.loads(done.stdout.splitlines()[-1])
    assert len(entries) == len(list((TOP / "sample_configs" / "architectures").glob("*.yaml")))
    assert all(entry["path"].startswith(str(installed)) for entry in entries)


def test_its_app_serves_with_its_own_settings(installed: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(installed / "bin" / "hybridlab"), "app", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=environment(installed, tmp_path / "home"),
        start_new_session=True,
    )
    health = ""
    deadline = time.monotonic() + 90
    try:
        while health != "ok" and time.monotonic() < deadline and process.poll() is None:
            try:
                url = f"http://localhost:{port}/_stcore/health"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    health = answer.read().decode()
            except OSError:
                time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert health == "ok", said
    assert "gathering usage statistics" not in said.lower()
    assert "Traceback" not in said


def test_its_pages_draw(installed: Path, tmp_path: Path) -> None:
    code = """
import json, os, sys
import hybridlab
from hybridlab.places import app_file
from streamlit.testing.v1 import AppTest
test = AppTest.from_file(str(app_file()), default_timeout=90).run()
print(json.dumps({"from": hybridlab.__file__, "app": str(app_file()),
                  "errors": [error.value for error in test.exception], "parts": len(test.main.children)}))
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(installed, tmp_path / "home"),
        timeout=180,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["from"].startswith(str(installed))
    assert found["app"].startswith(str(installed))
    assert found["errors"] == []
    assert found["parts"] > 0
