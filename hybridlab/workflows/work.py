"""One more worker of a study, in a process of its own: ``python -m hybridlab.workflows.work STUDY``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hybridlab.errors import HybridLabError, StoreError
from hybridlab.workflows.search import run_search, work_on

_JOIN_SECONDS = 60.0


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether somebody wished to end this process, by Ctrl-C or a SIGTERM, in the block.

    The first wish is heeded when it suits, a second Ctrl-C raises ``KeyboardInterrupt`` there and then.
    """
    asked = threading.Event()

    def heard(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _join(study: str, workers: int, should_stop: Callable[[], bool]) -> None:
    """Work on a study; a storage that is away just now is waited for, since it was there when the study was made."""
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        try:
            work_on(study, workers=workers, should_stop=should_stop)
            return
        except StoreError:
            if should_stop() or time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on the study that is named, made from a search file where one is given; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hybridlab.workflows.work")
    parser.add_argument("study")
    parser.add_argument(
        "--file", default="", help="the search, where the study may not be there yet"
    )
    parser.add_argument("--trials", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        with stopped_by_signals() as should_stop:
            if given.file:
                run_search(
                    given.file,
                    study=given.study,
                    trials=given.trials,
                    workers=given.workers,
                    should_stop=should_stop,
                )
            else:
                _join(given.study, given.workers, should_stop)
    except HybridLabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
