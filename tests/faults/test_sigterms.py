"""A worker that is asked to end by SIGTERM leaves a checkpoint within seconds, whatever it is doing."""

import os
import random
import signal
import time

import pytest

from hybridlab.runs.record import RunState
from hybridlab.runs.worker import EXIT_INTERRUPTED
from tests.faults.trainings import (
    IN_SAVE,
    UPDATES,
    Trainings,
    checkpoints,
    has_ended,
    train_unbroken,
    until,
    ways,
)

SIGTERMS = int(os.environ.get("HYBRIDLAB_SIGTERMS", "10"))
"""How many there are; ``make faults`` sends 200."""
BOUND_S = 5.0
SHARES = [
    (strategy, -(-SIGTERMS // len(strategies)))
    for strategies in [ways(SIGTERMS, 10, 40)]
    for strategy in strategies
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("strategy", "count"), SHARES)
def test_asked_to_end_at_random_moments(trainings: Trainings, strategy: str, count: int) -> None:
    chance = random.Random(f"{count} {strategy}")
    unbroken = train_unbroken(trainings, strategy)
    run = trainings.submit(strategy)
    longest, stopped, finished = 0.0, 0, 0
    while stopped < count:
        begun = trainings.mark(UPDATES)
        pid = trainings.begin(run)
        until(lambda begun=begun, pid=pid: trainings.mark(UPDATES) > begun or has_ended(pid))
        if chance.random() < 0.4:
            until(lambda pid=pid: trainings.mark(IN_SAVE) or has_ended(pid))
        time.sleep(chance.uniform(0, 0.1))
        asked = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        status = trainings.end()
        took = time.monotonic() - asked
        assert os.WIFEXITED(status), "it ends by itself"
        now = trainings.store.get(run.id)
        if now.state is RunState.INTERRUPTED:
            assert os.WEXITSTATUS(status) == EXIT_INTERRUPTED == 143
            assert "asked the worker to stop" in now.error
            assert max(checkpoints(run)) == now.step, "nothing that was done is lost"
            longest, stopped = max(longest, took), stopped + 1
            trainings.store.resume(run.id)
        else:  # it was through before it was asked
            unbroken.check(trainings, now)
            finished += 1
            run = trainings.submit(strategy)
    trainings.begin(run)
    assert trainings.end() == 0
    unbroken.check(trainings, trainings.store.get(run.id))
    print(
        f"{strategy}: {stopped} times asked to end, at most {longest:.2f} s; {finished} got through"
    )
    assert longest < BOUND_S
