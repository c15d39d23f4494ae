"""Quiet turns: those who work wait while one measures, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from hybridlab.runs.quiet import QuietTurns


def turns(folder: Path, patience_s: float = 60.0) -> QuietTurns:
    return QuietTurns(folder / "cache", "cuda:0", patience_s=patience_s)


def test_who_works_waits_between_two_steps_while_another_measures(tmp_path: Path) -> None:
    steps, ending = [0], threading.Event()

    def work() -> None:
        mine = turns(tmp_path)
        with mine.working():
            while not ending.is_set():
                mine.give_way()
                steps[0] += 1

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    one = turns(tmp_path)
    with one.working():
        while not steps[0]:
            time.sleep(0.001)
        assert not one.wanted
        for _ in range(3):
            with one.alone() as quiet:
                assert quiet and one.wanted
                before = steps[0]
                time.sleep(0.02)
                assert steps[0] == before
            while steps[0] == before:
                time.sleep(0.001)
    ending.set()
    for worker in workers:
        worker.join()
    with one.alone() as quiet:
        assert quiet


def test_two_who_measure_take_turns(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def measure() -> None:
        mine = turns(tmp_path)
        with mine.working():
            for _ in range(5):
                mine.give_way()
                with mine.alone() as quiet:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    assert quiet
                    time.sleep(0.001)
                    inside[0] -= 1

    both = [threading.Thread(target=measure) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert most == [1]


def test_one_who_does_not_give_way_is_told_of_and_not_waited_for(tmp_path: Path) -> None:
    with turns(tmp_path).working():
        with turns(tmp_path, patience_s=0.0).alone() as quiet:
            assert not quiet
            with turns(tmp_path, patience_s=0.0).working():
                pass
        with turns(tmp_path).alone(should_stop=lambda: True) as quiet:
            assert not quiet
    with turns(tmp_path, patience_s=0.0).alone() as quiet:
        assert quiet, "nothing is held any more"
