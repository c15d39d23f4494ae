"""What every backend of the store holds to; a new backend is one more parameter of ``store_address``."""

import math
import threading

import pytest

from hybridlab.errors import RunError
from hybridlab.runs.leases import Lease, LeaseLostError
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RESUMABLE, RunState
from hybridlab.runs.store import Store


def points(*steps: int, name: str = "loss") -> list[Point]:
    return [Point(step, name, step / 10, step * 0.5) for step in steps]


def test_a_created_run_comes_back_whole(store):
    spec = {"architecture": "name: é\n", "training": {"rate": 1e-3, "flags": [True, None]}}
    run = store.create(
        "train", "first", spec, threads=3, owner="Ada", device="cpu", parent="p", home="h"
    )
    assert store.get(run.id) == run
    assert (run.state, run.spec, run.threads, run.owner) == (RunState.QUEUED, spec, 3, "Ada")
    assert (run.device, run.parent, run.step, run.attempt) == ("cpu", "p", 0, 0)
    assert run.started is run.ended is run.result is run.pid is None
    assert run.created > 1.7e9


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "Ω 模型 🧪", "a'; DROP TABLE runs; --", "100 % _ wild", 'q"uote'],
)
def test_names_are_kept_as_they_are_written(store, name):
    run = store.create("train", name, {"text": name}, owner=name)
    found = store.get(run.id)
    assert (found.name, found.owner, found.spec["text"]) == (name, name, name)
    assert [other.id for other in store.list(text=name)] == [run.id]
    assert store.list(text=name + "x") == []


@pytest.mark.parametrize("name", ["a\x00b", "a\nb\r\n", "\ud800", "  a   b\t"])
def test_what_no_database_or_line_can_hold_is_replaced(store, name):
    run = store.create("train", name, {"text": "a\ud800b"}, owner=name)
    assert store.get(run.id).name.isprintable()


def test_empty_names_fall_back_to_the_kind_and_long_ones_are_cut(store):
    assert store.create("train", " \n ", {}).name == "train"
    assert len(store.create("train", "x" * 9999, {}).name) == 200


@pytest.mark.parametrize("spec", [{"rate": math.nan}, {"rate": math.inf}, {"what": object()}])
def test_settings_that_are_not_json_are_refused(store, spec):
    with pytest.raises(RunError, match="not plain JSON"):
        store.create("train", "x", spec)
    assert store.list() == []


def test_unknown_runs_are_errors_that_name_the_run(store):
    for call in (store.get, store.resume, store.delete, store.request_cancel, store.metrics):
        with pytest.raises(RunError, match=r"run 'absent'.*no such run"):
            call("absent")


def test_lists_are_newest_first_and_filter(store, given):
    first, second, third = (given.queued(name) for name in ("alpha", "beta", "alphabet"))
    store.request_cancel(second.id)
    assert [run.id for run in store.list()] == [third.id, second.id, first.id]
    assert [run.id for run in store.list(text="ALPHA", oldest_first=True)] == [first.id, third.id]
    assert [run.id for run in store.list(states=[RunState.CANCELLED])] == [second.id]
    assert [run.id for run in store.list(limit=1)] == [third.id]
    assert [run.id for run in store.list(text=second.id.upper())] == [second.id]
    assert store.list(kind="profile") == store.list(home="elsewhere") == store.list(states=[]) == []
    assert store.count_by_state()[RunState.QUEUED] == 2
    assert set(store.count_by_state()) == set(RunState)


def test_a_run_goes_to_one_claimant_only(store, given):
    run = given.queued()
    results: list[object] = []
    barrier = threading.Barrier(8)

    def claim(number: int) -> None:
        barrier.wait()
        results.append(store.leases.claim(run.id, f"t{number}", pid=number, birth="b"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if result is not None]
    assert len(results) == 8
    assert len(winners) == 1
    assert store.get(run.id).lease == winners[0].lease


def test_metrics_come_back_in_order_as_columns(store, given):
    run, lease = given.running()
    store.leases.beat(lease, points(1, 2), step=2, steps=10)
    store.leases.beat(lease, [Point(3, "loss", math.nan, 1.5), Point(3, "acc", math.inf, 1.5)])
    columns = store.metrics(run.id)
    assert columns.seq == [1, 2, 3, 4]
    assert columns.step == [1, 2, 3, 3]
    assert columns.name == ["loss", "loss", "loss", "acc"]
    assert columns.value[:2] == [0.1, 0.2]
    assert math.isnan(columns.value[2])
    assert columns.value[3] == math.inf
    assert columns.seconds == [0.5, 1.0, 1.5, 1.5]
    assert len(columns) == columns.last == 4
    assert columns.series("acc") == ([3], [math.inf])
    assert store.metrics(run.id, after=3).name == ["acc"]
    assert store.metrics(run.id, names=["acc"]).step == [3]
    assert store.metrics(run.id, after=4).seq == []
    assert store.metrics(run.id, after=4).last == 4
    assert store.latest_metrics([run.id, "absent"])[run.id]["acc"] == math.inf
    assert (store.get(run.id).step, store.get(run.id).steps) == (2, 10)


def test_taken_back_points_never_give_their_numbers_again(store, given):
    run, lease = given.running()
    store.leases.beat(lease, points(1, 2, 3, 4))
    assert store.leases.truncate_metrics(lease, 2) == 1.0
    columns = store.metrics(run.id)
    assert (columns.step, columns.last, columns.truncations) == ([1, 2], 4, 1)
    assert store.get(run.id).step == 2
    store.leases.beat(lease, points(3))
    assert store.metrics(run.id, after=4).seq == [5]
    assert store.running_seconds(run.id) == 1.5
    assert store.leases.truncate_metrics(lease, 0) == 0.0


def test_only_the_lease_holder_writes(store, given):
    run, stale = given.running(token="first")
    store.leases.beat(stale, points(1), step=1)
    assert store.leases.finish(stale, RunState.INTERRUPTED, error="it died")
    store.resume(run.id)
    for state in ("queued", "running again"):
        if state == "running again":
            assert store.leases.claim(run.id, "second", pid=2, birth="b")
        before = store.get(run.id)
        with pytest.raises(LeaseLostError):
            store.leases.beat(stale, points(2), step=2)
        with pytest.raises(LeaseLostError):
            store.leases.truncate_metrics(stale, 0)
        assert not store.leases.finish(stale, RunState.DONE, result={"stale": True})
        assert not store.leases.unclaim(stale)
        assert store.get(run.id) == before
        assert store.metrics(run.id).step == [1]
    assert store.get(run.id).attempt == 2
    store.leases.beat(Lease(run.id, "second"), points(2))


def test_an_ending_can_depend_on_silence(store, given):
    _, lease = given.running()
    store.leases.beat(lease)
    assert not store.leases.finish(lease, RunState.INTERRUPTED, heartbeat=0)
    assert store.leases.finish(lease, RunState.INTERRUPTED, heartbeat=1)


def test_a_flush_without_a_beat_leaves_the_heartbeat(store, given):
    _, lease = given.running()
    assert store.leases.beat(lease).heartbeat == 1
    assert store.leases.beat(lease, points(1), alive=False).heartbeat == 1


def test_unclaiming_is_for_workers_that_never_began(store, given):
    first, lease = given.running()
    second = given.queued()
    assert store.leases.unclaim(lease)
    assert [run.id for run in store.active("here")] == [first.id, second.id]
    assert store.get(first.id).attempt == 0
    _, begun = given.running(token="other")
    store.leases.beat(begun)
    assert not store.leases.unclaim(begun)


def test_results_are_json_and_errors_are_text(store, given):
    run, lease = given.running()
    result = {"accuracy": 0.5, "worst": math.nan, "nested": {"a": (1, 2)}}
    store.leases.finish(lease, RunState.DONE, result=result, error="odd \x00 \ud800 text")
    ended = store.get(run.id)
    assert ended.result == {"accuracy": 0.5, "worst": None, "nested": {"a": [1, 2]}}
    assert ended.error == "odd   ? text"
    assert ended.ended >= ended.started >= ended.created


@pytest.mark.parametrize("state", sorted(RESUMABLE))
def test_ended_runs_resume_at_the_end_of_the_queue(store, given, state):
    run, lease = given.running()
    store.leases.finish(lease, state, error="why")
    other = given.queued()
    again = store.resume(run.id)
    assert (again.state, again.error, again.ended, again.threads) == (
        RunState.QUEUED,
        "",
        None,
        run.threads,
    )
    assert [run.id for run in store.active("here")] == [other.id, run.id]
    with pytest.raises(RunError, match=r"cannot be resumed.*got queued"):
        store.resume(run.id)


def test_a_done_run_does_not_resume(store, given):
    run, lease = given.running()
    store.leases.finish(lease, RunState.DONE)
    with pytest.raises(RunError, match="got done"):
        store.resume(run.id)


def test_cancel_ends_the_waiting_asks_the_running_and_leaves_the_ended(store, given):
    waiting = given.queued()
    assert store.request_cancel(waiting.id).state is RunState.CANCELLED
    run, lease = given.running()
    assert store.request_cancel(run.id).state is RunState.RUNNING
    assert store.leases.beat(lease).cancel_requested
    store.leases.finish(lease, RunState.DONE)
    assert store.request_cancel(run.id).state is RunState.DONE
    assert not store.resume(waiting.id).cancel_requested


def test_deleting_takes_the_metrics_and_spares_the_running(store, given):
    run, lease = given.running()
    other, other_lease = given.running(token="other")
    store.leases.beat(lease, points(1))
    store.leases.beat(other_lease, points(1))
    with pytest.raises(RunError, match="running run cannot be deleted"):
        store.delete(run.id)
    store.leases.finish(lease, RunState.DONE)
    with pytest.raises(ZeroDivisionError):
        store.delete(run.id, beside=lambda: 1 // 0)
    assert store.metrics(run.id).step == [1]
    store.delete(run.id)
    with pytest.raises(RunError, match="no such run"):
        store.metrics(run.id)
    assert store.latest_metrics([run.id]) == {run.id: {}}
    assert store.metrics(other.id).step == [1]


def test_many_writers_lose_nothing(store_address, store, given):
    leases = [given.running(token=f"t{number}")[1] for number in range(4)]

    def write(lease: Lease) -> None:
        mine = Store(store_address)
        for step in range(1, 26):
            mine.leases.beat(lease, points(step, step, step), step=step)
        mine.close()

    threads = [threading.Thread(target=write, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in leases:
        assert store.metrics(lease.run_id).seq == list(range(1, 76))
        assert store.get(lease.run_id).heartbeat == 25


def test_a_second_opening_finds_the_same_runs(store_address, store, given):
    run = given.queued()
    again = Store(store_address)
    assert again.get(run.id) == run
    again.close()


def test_opening_at_the_same_time_makes_one_store(store_address):
    barrier = threading.Barrier(6)
    failures: list[BaseException] = []

    def open_and_write() -> None:
        barrier.wait()
        try:
            mine = Store(store_address)
            mine.create("train", "x", {})
            mine.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_and_write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    last = Store(store_address)
    assert len(last.list()) == 6
    last.close()
