"""A run's page: what it uses and what is not measured, the profile of its next steps, and TensorBoard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.profile_request import ProfileState, look, write
from hybridlab.runs.record import RunState
from hybridlab.ui.train import tensorboard
from hybridlab.ui.train.usage import usage_csv

ABSENT = {"quantity": "energy of the processor", "reason": "there is no <counter> here"}
TRACE = "host_1.5.pt.trace.json.gz"


def tell_meters(run, *absent: dict[str, str]) -> None:
    content = {
        "hz": 2.0,
        "measured": [{"quantity": "each core of the machine", "source": "psutil"}],
        "not_measured": list(absent),
    }
    (run_folder(run.id) / "meters.json").write_text(json.dumps(content))


def log(runs, run, **values: float) -> None:
    points = [Point(6, name.replace("__", "/"), value, 6.0) for name, value in values.items()]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=6, steps=10)


def titles(visitor) -> list[str]:
    return [panel["title"] for panel in visitor.component("chart.train")["panels"]]


def test_readings_are_drawn_beside_the_loss_and_what_is_not_measured_is_said(visitor, runs) -> None:
    run = runs.running("mine")
    tell_meters(run, ABSENT)
    visitor.open("2_Train", run=run.id)
    assert "All cores" not in titles(visitor)
    log(runs, run, cpu_percent=90.0, cores_percent=50.0, core_percent__0=80.0, core_percent__1=20.0)
    visitor.until(lambda at: "All cores" in titles(visitor))
    cores = visitor.component("chart.train")["panels"][-1]
    assert (cores["metrics"], cores["unit"]) == (["core_percent/0", "core_percent/1"], "%")
    sent = visitor.component("feed.train")["parts"][run.id]["points"]
    assert sent["core_percent/0"][1:] == [[6], [80.0]]
    assert "*Measured*, 2 a second: each core of the machine." in visitor.words()
    said = r"Energy of the processor: *not measured*: there is no \<counter\> here."
    assert said in visitor.words()
    assert "Power" not in titles(visitor), "no chart where nothing measures, rather than one of 0"
    log(
        *(runs, run),
        device_power_w=250.0,
        device_bytes=2.0**21,
        device_reserved_bytes=2.0**22,
        device_unused_bytes=2.0**21,
        device_largest_free_bytes=2.0**20,
    )
    visitor.until(lambda at: "Power" in titles(visitor))
    panels = {panel["title"]: panel for panel in visitor.component("chart.train")["panels"]}
    assert panels["Memory of the device"]["names"] == ["in tensors", "reserved"]
    fragmentation = panels["Fragmentation of the device's memory"]
    assert fragmentation["names"] == ["reserved, not allocated", "largest free block"]
    assert fragmentation["unit"] == "MiB"


def test_the_samples_are_a_file_with_units_in_the_names(visitor, runs) -> None:
    run = runs.running("mine")
    log(runs, run, cpu_percent=90.0, core_percent__0=80.0)
    visitor.open("2_Train", run=run.id)
    (button,) = [b for b in visitor.at.get("download_button") if "Utilisation" in b.proto.label]
    assert not button.proto.disabled
    lines = usage_csv(run.id).splitlines()
    assert lines == [
        "step,seconds,metric,value",
        "6,6.000,cpu_percent,90.0",
        "6,6.000,core_percent/0,80.0",
    ]


def test_the_energy_of_a_run_is_a_figure_or_a_reason(visitor, runs) -> None:
    run = runs.running("mine")
    energy = {"joules": None, "not_measured": "a virtual machine", "modelled": None}
    modelled = {"stated_w": 65.0, "joules": 650.0, "joules_per_step": 6.5}
    result = {"metrics": {}, "steps": 10, "seconds": 2.5, "stop_reason": "steps"}
    result["energy"] = {**energy, "modelled": modelled}
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result=result)
    visitor.open("2_Train", run=run.id)
    assert r"Energy: not measured\: a virtual machine." in visitor.words()
    words = "A model, not a measurement: 650 J modelled from 65 W that you stated, 6"
    assert words in visitor.words()


def test_the_next_steps_are_asked_for_and_told_until_the_trace_is_there(visitor, runs) -> None:
    run = runs.running("mine")
    at = visitor.open("2_Train", run=run.id)
    visitor.give(at.number_input(key="train.profile_steps"), 7)
    visitor.press("Profile the next 7 steps")
    asked = look(run)
    assert asked is not None
    assert (asked.steps, asked.state) == (7, ProfileState.ASKED)
    assert "Asked for the next 7 steps" in visitor.words()
    visitor.press("Profile the next 7 steps")
    assert any("being profiled already" in error.value for error in visitor.at.error)
    folder = run_folder(run.id)
    write(folder, replace(asked, state=ProfileState.RECORDING, first_step=8))
    visitor.until(lambda at: "Recording 7 steps from step 8 on" in visitor.words())
    assert visitor.button("tensorboard.start").disabled
    (folder / "profile" / TRACE).write_bytes(b"x" * 2048)
    written = replace(asked, state=ProfileState.WRITTEN, first_step=8, recorded=7, file=TRACE)
    write(folder, replace(written, size_bytes=2048))
    visitor.until(lambda at: "Steps 8 to 14 are in the trace, 2 KiB" in visitor.words())
    labels = [b.proto.label for b in visitor.at.get("download_button")]
    assert "Trace (Kineto JSON, gzip)" in labels
    assert not visitor.button("tensorboard.start").disabled


def test_a_run_that_ended_meanwhile_says_so_and_offers_no_more_steps(visitor, runs) -> None:
    run = runs.running("mine")
    visitor.open("2_Train", run=run.id)
    visitor.press("Profile the next 20 steps")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.CANCELLED)
    # The page may have been drawn just before the run ended, and told of it further down; the next draw asks no more.
    at = visitor.until(lambda at: at.warning and not asks(at))
    ended = r"The run ended \(cancelled\) before the profile began\."
    assert [warning.value for warning in at.warning] == [ended]


def asks(at) -> bool:
    """Whether the page still offers to profile steps."""
    return any("Profile the next" in button.label for button in at.button)


class Board:
    """Stands in for a TensorBoard process."""

    made: list[Board] = []  # noqa: RUF012  (emptied by the test)

    def __init__(self, folder: Path) -> None:
        self.folder, self.url, self.failure, self.alive = folder, None, "", True
        Board.made.append(self)

    def watch(self, here) -> None:
        assert callable(here)

    def stop(self) -> None:
        self.alive, self.url = False, None


def test_tensorboard_is_started_for_the_session_and_its_faults_are_said(
    visitor, runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "TensorBoard", Board)
    Board.made.clear()
    run = runs.ended("mine", metrics={})
    (run_folder(run.id) / "profile").mkdir()
    (run_folder(run.id) / "profile" / TRACE).write_bytes(b"x")
    visitor.open("2_Train", run=run.id)
    for words in ("Device time of operators is 0", "Steps of GPU traces are counted twice"):
        assert words in visitor.words()
    visitor.press("tensorboard.start")
    (board,) = Board.made
    assert board.folder == run_folder(run.id) / "profile"
    assert "TensorBoard is starting" in visitor.words()
    board.url = "http://127.0.0.1:5/"
    visitor.until(lambda at: at.get("link_button"))
    (link,) = visitor.at.get("link_button")
    assert link.proto.url == "http://127.0.0.1:5/#pytorch_profiler"
    visitor.press("tensorboard.stop")
    assert not board.alive
    assert visitor.button("tensorboard.start")
    visitor.press("tensorboard.start")
    Board.made[-1].alive, Board.made[-1].failure = False, "TensorBoard ended: <no> port"
    visitor.until(lambda at: at.error)
    assert visitor.at.error[0].value == r"TensorBoard ended\: \<no\> port"
