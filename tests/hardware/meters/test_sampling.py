"""Sampling: at its rate, by a clock that does not go back, and never in the way of what it watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from hybridlab.hardware.meters import host
from hybridlab.hardware.meters.host import host_meters
from hybridlab.hardware.meters.meter import Meter, NotMeasured
from hybridlab.hardware.meters.sampling import Sampling


def meter(name: str, *values: float | Exception) -> Meter:
    """A meter that gives its values one after the other, the last one for ever."""
    left = list(values)

    def read() -> Mapping[str, float]:
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return {name: value}

    return Meter(name, "the test", read)


def test_samples_come_at_the_rate_and_stop_when_closed() -> None:
    times: list[float] = []
    sampling = Sampling([meter("a", 1.0)], lambda values: times.append(time.monotonic()), hz=20)
    start = time.monotonic()
    sampling.start()
    while len(times) < 8 and time.monotonic() < start + 5:
        time.sleep(0.01)
    sampling.close()
    count = len(times)
    assert count >= 8
    elapsed = times[-1] - start
    assert elapsed >= 0.9 * count / 20, "no faster than asked for"
    time.sleep(0.12)
    assert len(times) == count


@pytest.mark.parametrize("hz", [0.0, 0.5, 20.5, float("nan")])
def test_other_rates_are_refused(hz: float) -> None:
    with pytest.raises(ValueError, match="1 to 20"):
        Sampling([], lambda values: None, hz=hz)


def test_a_meter_that_disappears_ends_with_its_reason_and_the_others_go_on() -> None:
    ended: list[NotMeasured] = []
    came: list[Mapping[str, float]] = []
    enough = threading.Event()

    def take(values: Mapping[str, float]) -> None:
        came.append(values)
        if len(came) == 4:
            enough.set()

    gone = meter("gone", 1.0, 2.0, OSError(19, "No such device"))
    sampling = Sampling(
        [gone, meter("stays", 5.0)], take, hz=20, on_end=lambda one, reason: ended.append(reason)
    )
    sampling.start()
    assert enough.wait(5)
    sampling.close()
    assert [set(values) for values in came[:3]] == [{"gone", "stays"}, {"stays"}, {"stays"}]
    assert ended == [NotMeasured("gone", "the meter ended: [Errno 19] No such device")]
    assert ended[0].sentence == "gone: not measured: the meter ended: [Errno 19] No such device"


@pytest.mark.parametrize("linux", [True, False])
def test_the_process_and_the_cores_are_read(
    linux: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not linux:
        monkeypatch.setattr(host, "_PROC", tmp_path)
    """However little of the machine is left for this process: what it used is known from outside the meters."""
    sampling = Sampling(host_meters().working, lambda values: None)
    outer_s, outer_used = -time.monotonic(), -time.process_time()
    sampling.sample()
    inner_s, inner_used = -time.monotonic(), -time.process_time()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        sum(range(1000))
    inner_s, inner_used = inner_s + time.monotonic(), inner_used + time.process_time()
    values = sampling.sample()
    outer_s, outer_used = outer_s + time.monotonic(), outer_used + time.process_time()
    assert 100 * inner_used / outer_s <= values["cpu_percent"] <= 100 * outer_used / inner_s
    assert 10e6 < values["rss_bytes"] < 1e11
    cores = [value for name, value in values.items() if name.startswith("core_percent/")]
    assert all(0 <= value <= 100 for value in cores)
    count = len(psutil.cpu_times(percpu=True))
    busy_s = values["cores_percent"] / 100 * count * outer_s
    assert busy_s > 0.6 * inner_used, "this process's work is part of the machine's"
    if cores:
        assert values["cores_percent"] == pytest.approx(sum(cores) / len(cores))


def test_ten_samples_a_second_take_less_than_one_percent_of_a_core() -> None:
    sampling = Sampling(host_meters().working, lambda values: None)
    sampling.sample()
    start = time.thread_time()
    for _ in range(40):
        sampling.sample()
    each = (time.thread_time() - start) / 40
    assert 10 * each < 0.01
