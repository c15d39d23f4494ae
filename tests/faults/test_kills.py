"""Kill real trainings at random moments: no checkpoint unreadable, no run lost, the same weights to the bit."""

import os
import random
import signal
import time

import pytest

from hybridlab.runs.record import Run, RunState
from tests.faults.trainings import (
    IN_SAVE,
    SAVE_NS,
    STRATEGIES,
    UPDATES,
    Trainings,
    checkpoints,
    has_ended,
    train_unbroken,
    until,
    ways,
)

KILLS = int(os.environ.get("HYBRIDLAB_KILLS", "25"))
"""How many kills there are; ``make faults`` kills 1,000 times, CI 210 times."""


def plan(kills: int) -> list[tuple[str, int, int]]:
    """Share the kills out: to all ways equally, at most 50 to a training; a few go to the plain one alone."""
    strategies = ways(kills, 25, 25 * len(STRATEGIES))
    each = -(-kills // len(strategies))
    parts = -(-each // 50)
    return [(one, -(-each // parts), part) for one in strategies for part in range(parts)]


PARTS = plan(KILLS)
"""Trainings that are killed beside each other, all strategies equally often."""


def kill_once(trainings: Trainings, run: Run, chance: random.Random) -> bool:
    """Fork a worker and kill it at a random moment; say whether it died of that."""
    before = trainings.mark(UPDATES)
    pid = trainings.begin(run)
    longest = 0.25
    moment = chance.random()
    if (
        moment > 0.15
    ):  # at work; before that, it opens the store, builds the model, reads the checkpoint
        until(lambda: trainings.mark(UPDATES) > before or has_ended(pid))
    if moment > 0.6:  # while it writes a checkpoint, most likely
        until(lambda: trainings.mark(IN_SAVE) or has_ended(pid))
        longest = trainings.mark(SAVE_NS) / 1e9
    time.sleep(chance.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    status = trainings.end()
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("strategy", "kills", "part"), PARTS)
def test_killed_at_random_moments(trainings, strategy, kills, part):
    chance = random.Random(f"{kills} {strategy} {part}")
    unbroken = train_unbroken(trainings, strategy)
    died = inside = moved = finished = 0
    run = trainings.submit(strategy)
    while died < kills or (inside < 0.3 * kills and died < 2 * kills):
        updates, steps = trainings.mark(UPDATES), checkpoints(run)
        if kill_once(trainings, run, chance):
            died += 1
            inside += trainings.mark(IN_SAVE)
            moved += trainings.mark(UPDATES) > updates
        left = checkpoints(run)
        assert max(left, default=0) >= max(steps, default=0), "a finished checkpoint is never lost"

        trainings.watcher.tick(time.monotonic())
        now = trainings.store.get(run.id)
        if now.state is RunState.INTERRUPTED:
            assert "resume the run" in now.error
            trainings.store.resume(run.id)
        elif (
            now.state is not RunState.QUEUED
        ):  # it got through before the kill, or just after its end was written
            unbroken.check(trainings, now)
            finished += 1
            run = trainings.submit(strategy)
    trainings.begin(run)
    assert trainings.end() == 0
    unbroken.check(trainings, trainings.store.get(run.id))

    print(
        f"{strategy}: {died} kills, {inside} inside a save, {moved} after an update; {finished} runs got through"
    )
    assert moved >= 0.6 * died, "steps really ran between kills"
    assert inside >= 0.3 * kills, "kills really fell inside saves"
    assert finished >= died // 100, "killed runs came to their end"
    runs = [one for one in trainings.store.list() if one.name != "teacher"]
    assert len(runs) == finished + 2, "no run was lost"
