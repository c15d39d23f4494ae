"""Energy of runs over several attempts, and what is told where a meter is missing or ends."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hybridlab.hardware.meters.energy import Counter, EnergyAccount
from hybridlab.hardware.meters.here import Instruments
from hybridlab.hardware.meters.meter import Meter, Meters, NotMeasured
from hybridlab.runs.energy_words import energy_words, modelled_words
from hybridlab.training.spec import TrainSpec, make
from hybridlab.workflows.metering import RunEnergy, metered
from tests.workflows.test_train import Context


class Watts:
    """A clock and a counter of 30 W while the test lets time pass."""

    def __init__(self) -> None:
        self.now, self.total = 0.0, 0.0

    def go(self, seconds: float, watts: float = 30.0) -> None:
        self.now += seconds
        self.total += watts * seconds

    def found(self, *absent: NotMeasured) -> Instruments:
        counters = [] if absent else [Counter("RAPL package-0", "a package", lambda: self.total)]
        return Instruments(Meters(), EnergyAccount(counters, absent, clock=lambda: self.now))


def spec(**more: Any) -> TrainSpec:
    return make({"task": "parity", "batch": 4, **more})


def test_attempts_add_up_to_joules_per_step_sample_and_token(tmp_path: Path) -> None:
    world = Watts()
    first = RunEnergy(Context(tmp_path, {}), spec(), world.found(), length=8)  # type: ignore[arg-type]
    world.go(10)
    first.keep(50)
    world.go(100)  # killed here: these joules and their steps are lost together
    second = RunEnergy(Context(tmp_path, {}, resumed=True), spec(), world.found(), length=8)  # type: ignore[arg-type]
    second.goes_on_from(50)
    world.go(20)
    energy = second.result(150)
    assert (energy["steps"], energy["samples"], energy["tokens"]) == (150, 600, 4800)
    assert energy["joules"] == pytest.approx(900)
    assert energy["joules_per_step"] == pytest.approx(6)
    assert energy["joules_per_sample"] == pytest.approx(1.5)
    assert energy["joules_per_token"] == pytest.approx(0.1875)
    assert energy["net_joules"] is None
    words = energy_words(energy)
    assert words.startswith("900 J measured by RAPL package-0 (a package), 6 J a step, 1.5 J a s")
    assert "idle power was not measured and is in it" in words


def test_where_nothing_measures_the_words_are_a_reason_and_never_a_number(tmp_path: Path) -> None:
    world = Watts()
    absent = NotMeasured("energy of the processor", "a virtual machine")
    energy = RunEnergy(Context(tmp_path, {}), spec(stated_watts=65), world.found(absent), 8)  # type: ignore[arg-type]
    world.go(10)
    found = energy.result(100)
    assert (found["joules"], found["net_joules"], found["joules_per_token"]) == (None, None, None)
    assert energy_words(found) == "not measured: a virtual machine"
    assert found["modelled"]["joules"] == 650
    assert found["modelled"]["joules_per_step"] == pytest.approx(6.5)
    assert modelled_words(found).startswith(
        "650 J modelled from 65 W that you stated, 6.5 J a step"
    )
    assert modelled_words({**found, "modelled": None}) == ""
    assert energy_words({}).startswith("not measured")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_attempt_without_a_meter_leaves_no_half_figure(tmp_path: Path) -> None:
    world = Watts()
    first = RunEnergy(Context(tmp_path, {}), spec(), world.found(NotMeasured("e", "locked")), 8)  # type: ignore[arg-type]
    world.go(10)
    first.keep(50)
    second = RunEnergy(Context(tmp_path, {}, resumed=True), spec(), world.found(), 8)  # type: ignore[arg-type]
    second.goes_on_from(50)
    world.go(10)
    energy = second.result(100)
    assert energy["joules"] is None
    assert energy["not_measured"] == "locked"


def test_idle_power_is_measured_when_asked_for_and_stated(tmp_path: Path) -> None:
    world = Watts()
    found = world.found()
    whole = found.energy.measure_idle

    def rest(seconds: float, sleep: object) -> None:
        whole(seconds, lambda seconds: world.go(seconds, watts=10))

    found.energy.measure_idle = rest  # type: ignore[method-assign]
    energy = RunEnergy(Context(tmp_path, {}), spec(idle_power_s=3), found, 8)  # type: ignore[arg-type]
    world.go(10)
    told = energy.result(100)
    assert (told["joules"], told["net_joules"]) == (pytest.approx(300), pytest.approx(200))
    assert told["sources"][0]["idle_w"] == pytest.approx(10)
    assert "200 J without idle power (10 W, measured for 3 s before)" in energy_words(told)


def test_a_meter_that_ends_is_told_in_the_folder_and_the_body_goes_on(tmp_path: Path) -> None:
    context = Context(tmp_path, {})

    def gone() -> dict[str, float]:
        raise OSError("the driver was unloaded")

    meters = Meters((Meter("power", "a GPU", gone), Meter("memory", "here", lambda: {"rss": 1.0})))
    found = Instruments(meters, EnergyAccount([]))
    with metered(context, spec(meter_hz=20), found):  # type: ignore[arg-type]
        context.progress(7, 10)
        deadline = time.monotonic() + 5
        while len(context.points) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert context.points[0] == (7, "rss", 1.0)
    told = json.loads((tmp_path / "meters.json").read_text())
    assert [one["quantity"] for one in told["measured"]] == ["memory"]
    assert told["not_measured"] == [
        {"quantity": "power", "reason": "the meter ended: the driver was unloaded"}
    ]
