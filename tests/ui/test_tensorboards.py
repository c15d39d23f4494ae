"""TensorBoard as a process: our traces over HTTP, and its end with whoever started it."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hybridlab.runs.profile_request import ProfileRequest, read, write
from hybridlab.training import step_profile
from hybridlab.training.step_profile import StepProfiler
from hybridlab.ui.tensorboards import TensorBoard

STEPS = 3
QUIET = (sys.executable, "-c", 'import sys; print(\'{"url": "u"}\', flush=True); sys.stdin.read()')


def until(condition, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come about within {seconds} s")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's profile folder with the trace of three steps of a small training."""
    monkeypatch.setattr(step_profile, "LOOK_SECONDS", 0.0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    profiler = StepProfiler(tmp_path, model)
    write(tmp_path, ProfileRequest(STEPS, 0.0))
    for step in range(6):
        model(torch.ones(8, 16)).sum().backward()
        profiler.after_step(step)
    assert read(tmp_path).recorded == STEPS  # type: ignore[union-attr]
    return tmp_path / "profile"


def test_the_plugin_lists_our_run_and_gives_its_overview(folder: Path) -> None:
    board = TensorBoard(folder)
    try:
        url = until(lambda: board.url or board.failure)
        assert url.startswith("http://127.0.0.1:"), url

        def ask(route: str, **query: str) -> Any:
            address = f"{url}data/plugin/pytorch_profiler/{route}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.loads(answer.read())

        def loaded() -> Any:
            told = ask("runs")
            return told["runs"] if told["runs"] and not told["loading"] else None

        (run,) = until(loaded)
        assert {"Overview", "Operator"} <= set(ask("views", run=run))
        (worker,) = ask("workers", run=run, view="Overview")
        assert worker.startswith(socket.gethostname())
        (span,) = ask("spans", run=run, worker=worker)
        overview = ask("overview", run=run, worker=worker, span=span, view="Overview")
        assert len(overview["steps"]["rows"]) == STEPS
        assert any("Average Step Time" in str(item) for item in overview["performance"])
        operators = ask(
            "operation/table", run=run, worker=worker, span=span, view="Operator",
            group_by="Operation",
        )  # fmt: skip
        names = {row["name"] for row in operators["data"]}
        assert "aten::addmm" in names
    finally:
        board.stop()
    assert not board.alive
    port = urllib.parse.urlparse(url).port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "nothing listens any more"


def test_it_ends_when_the_session_has_gone(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, QUIET)
    until(lambda: board.url)
    here = [True]
    board.watch(lambda: here[0], grace_s=0.2)
    time.sleep(0.5)
    assert board.alive
    here[0] = False
    until(lambda: not board.alive, 10)
    assert (board.url, board.failure) == (None, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('no such port')"), "no such port"),
        ((sys.executable, "-c", "print('hello')"), "exit code 0"),
        (("/nowhere/at/all",), "cannot be started: no such file"),
    ],
)
def test_one_that_does_not_come_up_says_why(
    tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    board = TensorBoard(tmp_path, command)
    assert said in until(lambda: board.failure, 20)
    assert not board.alive
    board.stop()
