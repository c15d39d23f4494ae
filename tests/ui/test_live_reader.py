"""What a live chart is sent: everything at first, then only what is new, and all again when points were taken back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridlab.errors import RunError
from hybridlab.runs.home import home_id
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RunState
from hybridlab.runs.store import Store, open_store
from hybridlab.ui import state
from hybridlab.ui.live import pump
from hybridlab.ui.live import reader as live
from hybridlab.ui.live.component import Panel

LOSS = frozenset({"loss"})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.setattr(live, "ensure_supervisor", lambda: True)
    clock = itertools.count(0, 10)  # each look is ten seconds after the one before
    monkeypatch.setattr(live.time, "monotonic", lambda: float(next(clock)))
    (tmp_path / "home").mkdir()
    opened = open_store()
    yield opened
    opened.close()


@pytest.fixture
def lease(store: Store) -> Lease:
    run = store.create("train", "mine", {"training": {}}, home=home_id())
    store.leases.claim(run.id, "token", pid=1, birth="then")
    return Lease(run.id, "token")


def write(store: Store, lease: Lease, steps: range, name: str = "loss") -> None:
    points = [Point(step, name, float(step), step / 2) for step in steps]
    store.leases.beat(lease, points, step=steps[-1], steps=100)


def test_a_reader_gives_only_what_came_since(store, lease) -> None:
    write(store, lease, range(1, 4))
    reader = live.Reader(lease.run_id)
    assert reader.look().step == 3
    last, points = reader.since(0, LOSS, 100)
    assert points == {"loss": ([1, 2, 3], [1, 2, 3], [1.0, 2.0, 3.0])}
    assert reader.since(last, LOSS, 100) == (last, {})
    write(store, lease, range(4, 6))
    reader.look()
    newer, points = reader.since(last, LOSS, 100)
    assert newer == last + 2
    assert points == {"loss": ([4, 5], [4, 5], [4.0, 5.0])}
    assert reader.since(0, frozenset({"val_accuracy"}), 100) == (newer, {})


def test_values_that_are_no_numbers_travel_as_gaps(store, lease) -> None:
    values = [1.0, math.nan, math.inf]
    points = [Point(step, "loss", value, 1.0) for step, value in enumerate(values, 1)]
    store.leases.beat(lease, points, step=3, steps=3)
    reader = live.Reader(lease.run_id)
    reader.look()
    assert reader.curve("loss") == ([1, 2, 3], [1.0, None, None])
    assert reader.latest() == {"loss": 1.0}


def test_points_taken_back_start_a_new_generation(store, lease) -> None:
    write(store, lease, range(1, 11))
    reader = live.Reader(lease.run_id)
    reader.look()
    assert reader.generation == 0
    store.leases.truncate_metrics(lease, after_step=4)
    write(store, lease, range(5, 7))
    reader.look()
    assert reader.generation == 1
    assert reader.curve("loss") == ([1, 2, 3, 4, 5, 6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


@pytest.mark.parametrize("most", [7, 10, 100, 999])
def test_a_message_is_thinned_and_ends_with_the_newest_point(store, lease, most) -> None:
    write(store, lease, range(1, 1001))
    reader = live.Reader(lease.run_id)
    reader.look()
    for after in (0, 500):
        _, points = reader.since(after, LOSS, most)
        seq, steps, values = points["loss"]
        assert most / 2 <= len(seq) <= most
        assert steps[-1] == 1000
        assert steps[0] > after
        assert [float(step) for step in steps] == values
        assert len({b - a for a, b in itertools.pairwise(steps)}) == 1


def test_a_very_long_curve_is_kept_within_bounds(store, lease, monkeypatch) -> None:
    monkeypatch.setattr(live, "_MOST", 100)
    write(store, lease, range(1, 1001))
    reader = live.Reader(lease.run_id)
    reader.look()
    steps, values = reader.curve("loss")
    assert 50 <= len(steps) <= 100
    assert steps == sorted(set(steps))
    assert (steps[-1], values[-1]) == (1000, 1000.0)


def test_the_time_left_is_told_from_the_pace_so_far(store, lease) -> None:
    reader = live.Reader(lease.run_id)
    reader.look()
    assert reader.seconds_left() is None, "no step yet, no pace"
    write(store, lease, range(1, 26))
    reader.look()
    assert reader.seconds_left() == pytest.approx(0.5 * 75)


def test_sessions_share_a_reader_and_forget_the_oldest(monkeypatch) -> None:
    monkeypatch.setattr(live, "_readers", type(live._readers)())
    first = live.reader("first")
    assert live.reader("first") is first
    for number in range(live._MOST_READERS):
        live.reader(f"run {number}")
    assert len(live._readers) == live._MOST_READERS
    assert live.reader("first") is not first


def test_a_reader_of_nothing_says_so(store) -> None:
    with pytest.raises(RunError, match="there is no such run"):
        live.Reader("0123456789ab").look()


class Chart:
    """A session's chart: the messages it was sent, as the browser would get them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        monkeypatch.setattr(state, "keep", lambda name, first: self.kept.setdefault(name, first))
        monkeypatch.setattr(state, "put", self.kept.__setitem__)
        monkeypatch.setattr(pump, "feed", self._feed)
        monkeypatch.setattr(live, "_readers", type(live._readers)())

    def _feed(self, channel: str, message: dict[str, Any], lost: Any) -> None:
        self.messages.append(message)
        self.lost = lost

    def refreshed(self, run_id: str) -> dict[str, Any]:
        live.reader(run_id).look()
        pump.send("here", [Panel("Loss", "loss", ("loss",))], [run_id])
        return self.messages[-1]


def steps_of(message: dict[str, Any], run_id: str) -> list[int]:
    points = message["parts"][run_id]["points"]
    return points["loss"][1] if points else []


def test_a_chart_gets_everything_once_and_then_the_last_few_messages_again(
    store, lease, monkeypatch
) -> None:
    chart, run_id = Chart(monkeypatch), lease.run_id
    got = []
    for start in range(1, 41, 5):
        write(store, lease, range(start, start + 5))
        got.append(chart.refreshed(run_id))
    whole = [message for message in got if message["full"]]
    assert got[: len(whole)] == whole, "everything comes at first"
    assert 1 <= len(whole) <= 3
    assert [message["number"] for message in got] == list(range(1, 9))
    assert steps_of(whole[-1], run_id) == list(range(1, 5 * len(whole) + 1))
    assert steps_of(got[-1], run_id) == list(range(26, 41)), "three messages overlap"
    seen = {step for message in got for step in steps_of(message, run_id)}
    assert seen == set(range(1, 41)), "nothing is lost on the way"


def test_a_chart_gets_everything_again_when_it_asks_or_points_were_taken_back(
    store, lease, monkeypatch
) -> None:
    chart, run_id = Chart(monkeypatch), lease.run_id
    write(store, lease, range(1, 11))
    first = chart.refreshed(run_id)
    chart.lost()
    again = chart.refreshed(run_id)
    assert again["full"]
    assert steps_of(again, run_id) == list(range(1, 11))
    store.leases.truncate_metrics(lease, after_step=4)
    shorter = chart.refreshed(run_id)
    assert shorter["full"]
    assert shorter["generation"] != first["generation"]
    assert steps_of(shorter, run_id) == [1, 2, 3, 4]
    while chart.refreshed(run_id)["full"]:
        assert len(chart.messages) < 10
    pump.begin("here")
    fresh = chart.refreshed(run_id)
    assert fresh["full"], "the page was drawn anew"
    assert steps_of(fresh, run_id) == [1, 2, 3, 4]
    numbers = [message["number"] for message in chart.messages]
    assert numbers == list(range(1, len(numbers) + 1)), "numbers go on"


def test_an_ended_run_is_looked_at_rarely(store, lease, monkeypatch) -> None:
    reader = live.Reader(lease.run_id)
    store.leases.finish(lease, RunState.DONE, result={})
    moments = iter([100.0, 101.0, 101.0, 103.0, 103.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(moments))
    assert reader.look().state is RunState.DONE
    store.delete(lease.run_id)
    assert reader.look().state is RunState.DONE, "within two seconds nobody asks the store"
    with pytest.raises(RunError):
        reader.look()
