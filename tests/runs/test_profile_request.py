"""Asking a run for a profile: who may, when, and what is said where it comes to nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybridlab.errors import RunError
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.profile_request import ProfileState, ask, look, read, traces, write
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import Store, open_store


@pytest.fixture
def opened(home: Path) -> Store:
    return open_store()


def running(store: Store, place: str = "") -> Run:
    run = store.create("train", "x", {}, home=place or home_id())
    found = store.leases.claim(run.id, "token", pid=1, birth="then")
    assert found is not None
    return found


def end(store: Store, run: Run) -> Run:
    store.leases.finish(Lease(run.id, "token"), RunState.DONE)
    return store.get(run.id)


def test_what_is_asked_is_what_the_worker_reads(opened: Store) -> None:
    run = running(opened)
    assert look(run) is None
    asked = ask(run.id, 20)
    assert (asked.steps, asked.state) == (20, ProfileState.ASKED)
    assert read(run_folder(run.id)) == asked == look(run)
    with pytest.raises(RunError, match="being profiled already"):
        ask(run.id, 5)
    write(run_folder(run.id), replace(asked, state=ProfileState.WRITTEN))
    assert ask(run.id, 5).steps == 5, "the next one after it"


@pytest.mark.parametrize("steps", [0, -1, 201])
def test_other_numbers_of_steps_are_refused(opened: Store, steps: int) -> None:
    with pytest.raises(RunError, match="1 to 200"):
        ask(running(opened).id, steps)


def test_a_schedule_is_asked_for_and_refused_all_at_once(opened: Store) -> None:
    run = running(opened)
    with pytest.raises(RunError) as raised:
        ask(run.id, 5, wait=-1, warm_up=0, repeat=11)
    assert [problem.path for problem in raised.value.problems] == ["wait", "warm_up", "repeat"]
    asked = ask(run.id, 5, wait=100, warm_up=3, repeat=2)
    assert (asked.wait, asked.warm_up, asked.repeat, asked.cycle) == (100, 3, 2, 108)
    assert read(run_folder(run.id)) == asked


def test_a_run_that_has_ended_has_no_next_steps(opened: Store) -> None:
    run = end(opened, running(opened))
    with pytest.raises(RunError, match=r"has ended \(done\), so there are no next steps"):
        ask(run.id, 20)
    with pytest.raises(RunError, match="no such run"):
        ask("0" * 12, 20)


def test_a_run_of_another_home_cannot_be_asked(opened: Store) -> None:
    with pytest.raises(RunError, match="another HybridLab folder"):
        ask(running(opened, place="elsewhere").id, 20)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (ProfileState.ASKED, "The run ended (done) before the profile began."),
        (ProfileState.RECORDING, "The run ended (done) before the profile was written."),
    ],
)
def test_a_run_that_ends_meanwhile_is_said_in_a_sentence(
    opened: Store, state: ProfileState, sentence: str
) -> None:
    run = running(opened)
    write(run_folder(run.id), replace(ask(run.id, 20), state=state))
    found = look(end(opened, run))
    assert found is not None
    assert (found.state, found.message) == (ProfileState.FAILED, sentence)


def test_traces_are_known_by_their_names(opened: Store) -> None:
    run = running(opened)
    assert traces(run.id) == []
    ask(run.id, 3)
    folder = run_folder(run.id) / "profile"
    for name in ("host_1.123.pt.trace.json.gz", "host_1.124.pt.trace.json", ".x.1.json", "a.json"):
        (folder / name).write_text("{}")
    assert {path.name for path in traces(run.id)} == {
        "host_1.123.pt.trace.json.gz",
        "host_1.124.pt.trace.json",
    }
