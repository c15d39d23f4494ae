"""Live curves: every session gets every point once, in deltas, and everything again where something was lost."""

from __future__ import annotations

import json
import math
import threading

import pytest

from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store
from hybridlab.ui.live import pump, reader
from hybridlab.ui.live.component import Panel
from hybridlab.ui.live.reader import Reader, _tail

PANELS = [Panel("Loss", "loss", ("loss",))]


@pytest.fixture(autouse=True)
def always_look(monkeypatch) -> None:
    """Let the reader ask the store at every look, as if time had passed."""
    monkeypatch.setattr(reader, "_EVERY_S", 0.0)


@pytest.fixture
def session(monkeypatch):
    """Return a browser's view of a channel: what it was sent, put together as the chart does."""
    kept: dict[str, object] = {}
    monkeypatch.setattr(pump.state, "keep", lambda name, default: kept.setdefault(name, default))
    monkeypatch.setattr(pump.state, "put", lambda name, value: kept.__setitem__(name, value))
    browser = Browser()
    monkeypatch.setattr(pump, "feed", browser.take)
    return browser


class Browser:
    """Does with messages what ``chart.js`` does; ``lose`` drops the next ones."""

    def __init__(self) -> None:
        self.points: dict[int, float | None] = {}
        self.last = 0
        self.generation: str | None = None
        self.lose = 0
        self.messages: list[dict] = []

    def take(self, channel: str, message: dict, lost) -> None:
        message = json.loads(json.dumps(message, allow_nan=False))
        self.messages.append(message)
        if self.lose:
            self.lose -= 1
            return
        if message["full"]:
            self.points, self.last, self.generation = {}, 0, message["generation"]
        elif message["generation"] != self.generation:
            lost()
            return
        for part in message["parts"].values():
            if not message["full"] and part["after"] > self.last:
                lost()
                return
            for seqs, _, values in part["points"].values():
                for seq, value in zip(seqs, values, strict=True):
                    if message["full"] or seq > self.last:
                        self.points[seq] = value
            self.last = max(self.last, part["last"])


def log(run, start: int, count: int) -> None:
    points = [Point(step, "loss", float(step), step / 10) for step in range(start, start + count)]
    open_store().leases.beat(Lease(run.id, "token"), points, step=start + count - 1, steps=100)


def send(run) -> None:
    reader.reader(run.id).look()
    pump.send("c", PANELS, [run.id])


def test_deltas_add_up_to_the_whole_curve(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    pump.begin("c")
    for round_ in range(12):
        log(run, 10 * round_, 10)
        send(run)
    assert session.points == {seq: float(seq - 1) for seq in range(1, 121)}
    assert [message["full"] for message in session.messages].count(True) == 2
    newest = session.messages[-1]["parts"][run.id]["points"]["loss"][0]
    assert len(newest) <= 30, "only the newest points travel"


def test_the_borders_of_stages_travel_to_every_chart(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    pump.begin("c")
    points = [Point(4, "stage", 1.0, 0.4), Point(5, "loss", 2.0, 0.5)]
    open_store().leases.beat(Lease(run.id, "token"), points, step=5, steps=100)
    send(run)
    (part,) = session.messages[-1]["parts"].values()
    assert part["points"]["stage"][1:] == [[4], [1.0]]


def test_one_lost_message_is_made_up_by_the_next_one(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    pump.begin("c")
    for round_ in range(8):
        session.lose = 1 if round_ == 5 else 0
        log(run, 10 * round_, 10)
        send(run)
    assert len(session.points) == 80
    assert not any(message["full"] for message in session.messages[2:])


def test_many_lost_messages_bring_everything_again(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    pump.begin("c")
    for round_ in range(12):
        session.lose = 1 if 4 <= round_ < 9 else 0
        log(run, 10 * round_, 10)
        send(run)
    assert len(session.points) == 120
    assert any(message["full"] for message in session.messages[9:])


def test_points_taken_back_disappear(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    pump.begin("c")
    log(run, 0, 50)
    for _ in range(3):
        send(run)
    open_store().leases.truncate_metrics(Lease(run.id, "token"), 19)
    log(run, 20, 5)
    send(run)
    assert sorted(value for value in session.points.values()) == [float(v) for v in range(25)]


def test_a_value_that_is_no_number_travels_as_null(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    points = [
        Point(0, "loss", math.nan, 0.0),
        Point(1, "loss", math.inf, 0.1),
        Point(2, "loss", 1.0, 0.2),
    ]
    open_store().leases.beat(Lease(run.id, "token"), points, step=2, steps=3)
    pump.begin("c")
    send(run)
    assert list(session.points.values()) == [None, None, 1.0]


def test_a_long_curve_is_thinned_before_it_travels(make_run, session) -> None:
    run = make_run(state=RunState.RUNNING)
    log(run, 0, 5_000)
    pump.begin("c")
    send(run)
    seqs = session.messages[0]["parts"][run.id]["points"]["loss"][0]
    assert len(seqs) <= 800
    assert seqs[-1] == 5_000


def test_memory_of_a_reader_is_bounded(make_run, monkeypatch) -> None:
    monkeypatch.setattr(reader, "_MOST", 100)
    run = make_run(state=RunState.RUNNING)
    source = Reader(run.id)
    for round_ in range(20):
        log(run, 50 * round_, 50)
        source.look()
    steps, values = source.curve("loss")
    assert len(steps) <= 100
    assert steps == sorted(steps)
    assert (steps[0], steps[-1], values[-1]) == (0, 999, 999.0)


def test_one_look_at_the_store_serves_all_sessions(make_run, monkeypatch) -> None:
    monkeypatch.setattr(reader, "_EVERY_S", 60.0)
    run = make_run(state=RunState.RUNNING)
    source, looks = Reader(run.id), []
    real = open_store().metrics
    monkeypatch.setattr(
        type(open_store()), "metrics", lambda self, *a, **k: looks.append(1) or real(*a, **k)
    )
    threads = [threading.Thread(target=source.look) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("start", [0, 1, 9])
def test_tails_keep_the_last_point(start, stride) -> None:
    column = list(range(10))
    tail = _tail(column, start, stride)
    assert tail[-1] == 9
    assert tail == sorted(tail)
    assert tail[0] >= start
    assert len(tail) == math.ceil((10 - start) / stride)
