"""One more worker of a study, in a process of its own: ``python -m hybridlab.workflows.work STUDY``."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hybridlab.errors import HybridLabError
from hybridlab.workflows.search import work_on


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether somebody wished to end this process, by Ctrl-C or a SIGTERM, in the block.

    The first wish is heeded when it suits, the second raises ``KeyboardInterrupt`` there and then.
    """
    asked = threading.Event()

    def heard(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
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


def main(arguments: Sequence[str]) -> int:
    """Work on the study that is named; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m hybridlab.workflows.work STUDY", file=sys.stderr)
        return 2
    try:
        with stopped_by_signals() as should_stop:
            work_on(arguments[0], should_stop=should_stop)
    except HybridLabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
