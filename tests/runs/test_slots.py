"""Who may start: never more than there is, always in order."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridlab.runs import slots
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import Capacity, startable, worker_environment

BLANK = Run(
    **dict.fromkeys(("id", "kind", "name", "owner", "error", "granted", "home", "birth"), ""),
    **dict.fromkeys(("started", "ended", "result", "parent", "pid"), None),
    **dict.fromkeys(("step", "steps", "heartbeat", "attempt", "truncations"), 0),
    state=RunState.QUEUED,
    created=0.0,
    threads=1,
    device="auto",
    spec={},
    cancel_requested=False,
    lease="",
)


def run(threads=1, device="auto", granted="", name=""):
    return dataclasses.replace(BLANK, threads=threads, device=device, granted=granted, name=name)


runs_strategy = st.builds(
    run, st.integers(1, 6), st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:1"])
)
capacities = st.builds(
    Capacity,
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from([(), ("cuda:0",), ("cuda:0", "cuda:1"), ("mps",)]),
)


@given(st.lists(runs_strategy, max_size=12), capacities)
def test_what_starts_fits_and_something_starts(queue, capacity):
    running: list[Run] = []
    waiting = list(queue)
    for _ in range(len(queue)):
        chosen = startable(waiting, running, capacity)
        if waiting and not running:
            assert chosen, "an empty machine always takes the first"
            assert chosen[0][0] is waiting[0]
        for taken, granted in chosen:
            waiting = [other for other in waiting if other is not taken]
            running.append(dataclasses.replace(taken, granted=granted))
        used = [one.granted for one in running if one.granted != "cpu"]
        assert len(set(used)) == len(used), "one run on each accelerator"
        assert set(used) <= set(capacity.devices)
        assert sum(min(one.threads, capacity.cores) for one in running) <= capacity.cores
        assert len(running) <= capacity.slots
        running = running[1:]
    assert waiting == [], "everyone has had a turn"


def names(chosen):
    return [(one.name, granted) for one, granted in chosen]


def test_a_wide_run_is_not_starved_by_narrow_ones():
    queue = [run(4, name="wide"), run(1, name="narrow")]
    assert startable(queue, [run(1)], Capacity(4, 4)) == []
    assert names(startable(queue, [], Capacity(4, 4))) == [("wide", "cpu")]


def test_waiting_for_an_accelerator_lets_others_pass_but_not_on_that_accelerator():
    busy = [run(granted="cuda:0")]
    queue = [run(name="gpu"), run(device="cpu", name="cpu"), run(device="cuda:0", name="exact")]
    assert names(startable(queue, busy, Capacity(8, 4, ("cuda:0",)))) == [("cpu", "cpu")]
    assert names(startable(queue, [], Capacity(8, 4, ("cuda:0",)))) == [
        ("gpu", "cuda:0"),
        ("cpu", "cpu"),
    ]


def test_a_run_wider_than_the_machine_gets_all_of_it():
    assert len(startable([run(64)], [], Capacity(2, 2))) == 1
    assert startable([run(64)], [run(1)], Capacity(2, 2)) == []


def test_the_share_divides_the_cores(monkeypatch):
    assert [Capacity(cores, slots).share for cores, slots in [(2, 2), (8, 4), (1, 3)]] == [1, 2, 1]
    monkeypatch.setenv("HYBRIDLAB_SLOTS", "1")
    assert slots.capacity().slots == 1
    monkeypatch.delenv("HYBRIDLAB_SLOTS")
    assert slots.capacity().slots == min(slots.core_count(), 4)


@pytest.mark.parametrize(
    ("variable", "devices"),
    [("", ()), ("-1", ()), ("0", ("cuda:0",)), ("2, 3", ("cuda:2", "cuda:3"))],
)
def test_visible_accelerators_follow_the_environment(monkeypatch, variable, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert slots.accelerators() == devices


def test_a_worker_is_told_its_threads_and_its_device():
    narrow = worker_environment(1, "auto", "cpu")
    assert narrow["OMP_NUM_THREADS"] == narrow["MKL_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in narrow
    assert worker_environment(2, "auto", "cuda:3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(2, "cuda:3", "cuda:3")
