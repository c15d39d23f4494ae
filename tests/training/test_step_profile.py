"""Profiling the next steps of a training: the same weights, a trace as torch writes it, and a sentence otherwise."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.runs import profile_request
from hybridlab.runs.profile_request import ProfileRequest, ProfileState, read, write
from hybridlab.training import step_profile
from hybridlab.training.loop import train
from hybridlab.training.step_profile import StepProfiler


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a request after every step."""
    monkeypatch.setattr(step_profile, "LOOK_SECONDS", 0.0)


Trained = Callable[..., Any]


@pytest.fixture
def trained(tiny, parity, settings) -> Trained:
    """Train for twelve steps; ``ask`` puts a request of so many steps into the folder after step 3."""

    def go(
        folder: Path, ask: int = 0, every: int = 0, plan: dict[str, int] | None = None, **more: Any
    ) -> Any:
        model = tiny(parity, "use: lstm", "use: attention, heads: 2")
        profiler = StepProfiler(folder, model, every)

        def on_step(step: int) -> None:
            if ask and step == 3:
                write(folder, ProfileRequest(ask, 0.0, **(plan or {})))
            profiler.after_step(step)

        result = train(model, parity, settings(**more), folder=folder, on_step=on_step)
        profiler.close()
        assert not [hook for module in model.modules() for hook in module._forward_hooks.values()]
        return result

    return go


_plain: list[str] = []


@pytest.fixture
def plain(trained: Trained, tmp_path: Path) -> str:
    """The weights without a profile; trained once for all tests here."""
    if not _plain:
        _plain.append(trained(tmp_path / "plain").weights_sha256)
    return _plain[0]


def test_one_step_is_profiled_now_and_then_and_only_the_newest_traces_are_kept(
    trained: Trained, plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_profile, "KEPT", 2)
    folder = tmp_path / "scheduled"
    assert trained(folder, every=3).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    assert found.scheduled
    # After steps 3, 6 and 9 (and 12, when no step is left) a warm-up step and the one that is recorded.
    kept = sorted(
        (folder / "profile").glob("*.pt.trace.json.gz"), key=lambda path: path.stat().st_mtime_ns
    )
    assert len(kept) == 2
    marked = [
        {
            event["name"]
            for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
            if event.get("name", "").startswith("ProfilerStep#")
        }
        for trace in kept
    ]
    assert marked == [{"ProfilerStep#8"}, {"ProfilerStep#11"}]


def test_the_trace_is_there_and_the_weights_are_equal_to_the_bit(
    trained: Trained, plain: str, tmp_path: Path
) -> None:
    folder = tmp_path / "profiled"
    assert trained(folder, ask=5).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    assert (found.state, found.first_step, found.recorded) == (ProfileState.WRITTEN, 5, 5)
    named = rf"{re.escape(socket.gethostname())}_{os.getpid()}\.\d+\.pt\.trace\.json\.gz"
    assert re.fullmatch(named, found.file), "as tensorboard_trace_handler names it"
    assert sorted(path.name for path in (folder / "profile").iterdir()) == sorted(
        [found.file, "request.json"]
    )
    trace = folder / "profile" / found.file
    assert found.size_bytes == trace.stat().st_size
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {event["name"] for event in events if str(event.get("name")).startswith("ProfilerS")}
    assert steps == {f"ProfilerStep#{step}" for step in range(5, 10)}, "the training's own numbers"
    names = {event.get("name") for event in events}
    assert {"component: lstm", "component: attention"} <= names, "the components are ranges"
    assert "aten::mm" in names or "aten::addmm" in names
    assert any(event.get("name") == "[memory]" for event in events)
    assert any("Input Dims" in event.get("args", {}) for event in events if "args" in event)


def steps_in(trace: Path) -> set[str]:
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {str(event.get("name")) for event in events}
    return {name for name in names if name.startswith("ProfilerStep#")}


def test_a_schedule_waits_warms_up_and_records_again(
    trained: Trained, plain: str, tmp_path: Path
) -> None:
    folder = tmp_path / "planned"
    plan = {"wait": 1, "warm_up": 2, "repeat": 2}
    assert trained(folder, ask=1, plan=plan).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    # Asked after step 3: steps 4 waits, 5 and 6 warm up, 7 is kept; then 8, 9 and 10, and 11.
    assert (found.state, found.written, found.first_step, found.recorded) == (
        ProfileState.WRITTEN,
        2,
        11,
        1,
    )
    kept = sorted(
        (folder / "profile").glob("*.pt.trace.json.gz"), key=lambda path: path.stat().st_mtime_ns
    )
    assert [steps_in(trace) for trace in kept] == [{"ProfilerStep#7"}, {"ProfilerStep#11"}]
    assert found.file == kept[-1].name


def test_a_training_that_ends_between_two_recordings_keeps_the_first(
    trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "between"
    trained(folder, ask=2, plan={"wait": 5, "repeat": 3})
    found = read(folder)
    assert found is not None
    assert (found.state, found.written, found.first_step) == (ProfileState.WRITTEN, 1, 10)
    assert found.message == "The run ended after 1 of the 3 recordings."
    (trace,) = (folder / "profile").glob("*.pt.trace.json.gz")
    assert steps_in(trace) == {"ProfilerStep#10", "ProfilerStep#11"}


def test_a_training_that_ends_meanwhile_leaves_the_steps_it_has(
    trained: Trained, plain: str, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    assert trained(folder, ask=50).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    assert (found.state, found.recorded) == (ProfileState.WRITTEN, 8)
    assert found.message == "The run ended after 8 of the 50 steps; the trace holds those."
    assert (folder / "profile" / found.file).stat().st_size == found.size_bytes


def test_a_recording_that_takes_too_much_memory_ends_with_the_steps_it_has(
    trained: Trained, plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events between a step's tensors keep the heap from using their memory again: 40 MiB a step have been seen."""
    taken = iter(range(0, 100 * 2**20, 2**20))
    monkeypatch.setattr(step_profile, "resident_bytes", lambda: next(taken))
    monkeypatch.setattr(step_profile, "free_bytes", lambda device: 15 * 2**20)
    folder = tmp_path / "large"
    assert trained(folder, ask=50).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    assert (found.state, found.first_step, found.recorded) == (ProfileState.WRITTEN, 5, 3)
    words = "It had taken 4 MiB of memory, a quarter of what was free, after 3 of the 50 steps;"
    assert found.message.startswith(words)
    assert steps_in(folder / "profile" / found.file) >= {f"ProfilerStep#{n}" for n in (5, 6, 7)}


def test_a_training_that_ends_before_the_first_step_says_so(
    trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "late"
    trained(folder, ask=5, steps=4)
    found = read(folder)
    assert found is not None
    assert (found.state, found.file) == (ProfileState.FAILED, "")
    assert found.message == "The run ended before a step was profiled; there is no trace."
    assert [path.name for path in (folder / "profile").iterdir()] == ["request.json"]


@pytest.mark.parametrize("moment", ["start", "step", "export_chrome_trace"])
def test_a_profiler_that_fails_does_not_end_the_training(
    trained: Trained,
    plain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    def fail(*given: object, **more: object) -> None:
        raise RuntimeError("no room for events\nand more")

    monkeypatch.setattr(torch.profiler.profile, moment, fail)
    folder = tmp_path / "failing"
    assert trained(folder, ask=2).weights_sha256 == plain
    found = read(folder)
    assert found is not None
    assert found.state is ProfileState.FAILED
    assert found.message == "The profile could not be made: RuntimeError: no room for events"
    assert [path.name for path in (folder / "profile").iterdir()] == ["request.json"]


def test_one_profile_after_the_other_and_a_stale_one_is_told(tiny, parity, tmp_path: Path) -> None:
    model = tiny(parity)
    write(tmp_path, ProfileRequest(3, 0.0, ProfileState.RECORDING, first_step=9))
    profiler = StepProfiler(tmp_path, model)
    stale = read(tmp_path)
    assert stale is not None
    assert stale.message == "The run was broken off while the profile was being recorded."
    for first in (1, 11):
        write(tmp_path, ProfileRequest(1, float(first)))
        for step in range(first, first + 4):
            model(parity.train_batch(step, 2, 0).inputs)
            profiler.after_step(step)
        found = read(tmp_path)
        assert found is not None
        assert (found.state, found.first_step) == (ProfileState.WRITTEN, first + 2)
    assert len(list((tmp_path / "profile").glob("*.gz"))) == 2


def test_a_damaged_request_is_none(tiny, parity, tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    profiler = StepProfiler(tmp_path, tiny(parity))
    for content in ("", "{", "[]", '{"steps": 3}', '{"steps": 3, "asked_at": 0, "state": "x"}'):
        (tmp_path / "profile" / "request.json").write_text(content)
        assert profile_request.read(tmp_path) is None
        profiler.after_step(1)
    assert not list((tmp_path / "profile").glob("*.gz"))
