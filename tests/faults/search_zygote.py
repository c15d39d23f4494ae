"""A process that has imported what a search needs and forks its workers, several at once, whenever it is told to.

Only tests do this: a product worker is never forked. ``python search_zygote.py MARKS FILE LOG``; a line is
``begin SEAT TRIALS STORAGE HOME``, answered by the new worker's process id, or ``end PID``, answered by its wait
status. Seat 0 is the driver, which makes the study where there is none; the others are workers that find it.
"""

import mmap
import os
import struct
import sys
import time
import traceback
from pathlib import Path

from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.study import open_storage
from hybridlab.workflows.search import run_search, work_on

STUDY = "killed"
IN_TRIAL, TOOK_S = 8, 0.04


def become_worker(seat: int, trials: int, marks: mmap.mmap, storage: str, file: str) -> None:
    """Search, with trials that take a while and leave a mark from the outside while they run."""
    measure = ClosedFormLandscape.measure

    def marked(self, row_P, seed):
        struct.pack_into("q", marks, seat * IN_TRIAL, 1)
        time.sleep(TOOK_S)
        outcome = measure(self, row_P, seed)
        struct.pack_into("q", marks, seat * IN_TRIAL, 0)
        return outcome

    ClosedFormLandscape.measure = marked
    if seat:
        work_on(STUDY, place=storage)
    else:
        run_search(file, trials=trials, study=STUDY, storage=storage, sampler="random")


def main() -> None:
    marks_path, file, log = sys.argv[1:]
    open_storage("sqlite://")  # so that all it imports is there before the first fork
    with Path(marks_path).open("r+b") as opened:
        marks = mmap.mmap(opened.fileno(), 0)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        verb, *words = line.split()
        if verb == "end":
            print(os.waitpid(int(words[0]), 0)[1], flush=True)
            continue
        seat, trials, storage = int(words[0]), int(words[1]), words[2]
        os.environ["HYBRIDLAB_HOME"] = words[3]
        struct.pack_into("q", marks, seat * IN_TRIAL, 0)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(output, 1)
                os.dup2(output, 2)
                become_worker(seat, trials, marks, storage, file)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
