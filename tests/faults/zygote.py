"""A process that has imported everything a training needs and forks a worker whenever it is told a run's id.

Only tests do this: a product worker is never forked. It makes a kill cost a third of a second instead of five, so
that two hundred fit into minutes. ``python zygote.py MARKS``; a line on standard input is a run id, answered by the
worker's process id; an empty one after it is answered, once the worker has ended, by its wait status.
"""

import mmap
import os
import struct
import sys
import tempfile
import time
from pathlib import Path

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.runs import worker
from hybridlab.tasks.registry import fit
from hybridlab.tasks.registry import task as make_task
from hybridlab.training import checkpoint, loop, session
from hybridlab.training.defaults import prepare

TRAIN = "hybridlab.workflows.train:run"
# What a worker does, in memory that outlasts a kill: is it inside a save; how long the last took; updates begun.
IN_SAVE, SAVE_NS, UPDATES = 0, 8, 16


def become_worker(run_id: str, marks: mmap.mmap) -> int:
    """Work on a run, leaving marks from the outside of the code that is tested."""
    save, begin_update = checkpoint.save, session.set_rates

    def marked_save(*arguments, **options):
        struct.pack_into("q", marks, IN_SAVE, 1)
        began = time.monotonic_ns()
        try:
            return save(*arguments, **options)
        finally:
            struct.pack_into("qq", marks, IN_SAVE, 0, time.monotonic_ns() - began)

    def counted_update(*arguments):
        count = struct.unpack_from("q", marks, UPDATES)[0]
        struct.pack_into("q", marks, UPDATES, count + 1)
        return begin_update(*arguments)

    checkpoint.save, session.set_rates = marked_save, counted_update
    return worker.work(run_id, {"train": TRAIN})


def rehearse() -> None:
    """Train two steps, so that all that torch and the product import late is there before the first fork."""
    text = "name: rehearsal\nwidth: 8\nnodes:\n  - {use: lstm}\n  - {use: attention, heads: 2}\n"
    settings = {"task": "parity", "task_params": {"length": 8, "longer": 12}, "steps": 2}
    for data in ("python_bytes", "digits_sequence"):  # read once, not by each worker
        make_task(data).train_batch(0, 1, 0)
    task, spec = prepare(settings | {"batch": 4, "device": "cpu"})
    model = build(fit(loads(text), task), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        loop.train(model, task, spec, folder=Path(folder))


def main() -> None:
    torch.set_num_threads(1)
    worker.load(TRAIN)
    rehearse()
    with Path(sys.argv[1]).open("r+b") as file:
        marks = mmap.mmap(file.fileno(), 0)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = become_worker(line.strip(), marks)
            finally:
                os._exit(code)
        print(pid, flush=True)
        sys.stdin.readline()  # until then a dead worker stays a zombie, so that its number is nobody else's
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
