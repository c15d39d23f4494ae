"""Judging workers by a clock of our own: silence, deafness, and what is said at the grave."""

import dataclasses

import pytest

from hybridlab.runs.record import Run, RunState
from hybridlab.runs.watch import Judgement, Watch, epitaph

RUN = Run(
    **dict.fromkeys(("kind", "name", "owner", "error", "granted", "home", "birth"), ""),
    **dict.fromkeys(("started", "ended", "result", "parent", "pid"), None),
    **dict.fromkeys(("steps", "truncations"), 0),
    id="a",
    state=RunState.RUNNING,
    created=0.0,
    threads=1,
    device="auto",
    spec={},
    cancel_requested=False,
    lease="first",
    heartbeat=3,
    attempt=1,
    step=5,
)


def follow(watch, run, moments):
    seen = []
    for moment in moments:
        watch.look(moment, [run])
        seen.append(watch.judge(run))
    return seen


def test_silence_is_judged_after_eight_seconds_and_a_beat_starts_anew():
    watch = Watch()
    assert set(follow(watch, RUN, [n / 4 for n in range(32)])) == {Judgement.WELL}
    beaten = dataclasses.replace(RUN, heartbeat=4)
    assert set(follow(watch, beaten, [n / 4 for n in range(32, 64)])) == {Judgement.WELL}
    assert follow(watch, beaten, [16.25])[-1] is Judgement.SILENT


def test_a_worker_that_is_still_importing_has_a_minute():
    young = dataclasses.replace(RUN, heartbeat=0)
    seen = follow(Watch(), young, range(62))
    assert (seen.index(Judgement.SILENT), seen[59]) == (60, Judgement.WELL)


def test_nobody_is_blamed_when_the_machine_sleeps():
    watch = Watch()
    assert set(follow(watch, RUN, [0, 3600, 7200])) == {Judgement.WELL}


def test_a_new_lease_has_a_new_clock():
    watch = Watch()
    follow(watch, RUN, range(8))
    assert follow(watch, dataclasses.replace(RUN, lease="second"), [8]) == [Judgement.WELL]


def test_a_deaf_worker_is_told_once_then_killed():
    seen, watch = [], Watch()
    for moment in range(20):
        run = dataclasses.replace(RUN, cancel_requested=True, heartbeat=moment)
        seen += follow(watch, run, [moment])
    assert seen.index(Judgement.TERMINATE) == 10
    assert seen.count(Judgement.TERMINATE) == 1
    assert seen.index(Judgement.KILL) == 15


@pytest.mark.parametrize(
    ("code", "heartbeat", "cancel", "state", "words"),
    [
        (
            -9,
            3,
            False,
            RunState.INTERRUPTED,
            "(SIGKILL), by someone or because the machine ran out",
        ),
        (-11, 3, False, RunState.INTERRUPTED, "was killed (SIGSEGV) after step 5"),
        (-99, 3, False, RunState.INTERRUPTED, "signal 99"),
        (-9, 0, False, RunState.INTERRUPTED, "SIGKILL"),
        (7, 3, False, RunState.INTERRUPTED, "without a result (exit code 7)"),
        (None, 3, False, RunState.INTERRUPTED, "died after step 5; resume the run"),
        (1, 0, False, RunState.FAILED, "before it began (exit code 1)"),
        (28, 3, False, RunState.FAILED, "The disk was full"),
        (-9, 3, True, RunState.CANCELLED, ""),
    ],
)
def test_epitaphs(code, heartbeat, cancel, state, words):
    run = dataclasses.replace(RUN, heartbeat=heartbeat, cancel_requested=cancel)
    ended, sentence = epitaph(run, code)
    assert ended is state
    assert words in sentence
    assert bool(sentence) == bool(words)
