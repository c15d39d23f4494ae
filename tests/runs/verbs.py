"""A worker process with small workflows of its own: ``python verbs.py --wait`` or ``python verbs.py RUN_ID``."""

import ctypes
import errno
import os
import signal
import sys
import time

from hybridlab.errors import Problem, TaskError
from hybridlab.runs.worker import RunContext, Stopped, serve, work

BORN_WITH = os.environ.get("PYTORCH_ALLOC_CONF")
ERRORS = {
    "ours": lambda: TaskError(Problem("task", "unknown task", "parity", "<b>x</b>")),
    "memory": lambda: MemoryError(),
    "torch_memory": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory"
    ),
    "device": lambda: RuntimeError(
        "CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"
    ),
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device", "/x/model.safetensors"),
    "other": lambda: ZeroDivisionError("division by zero"),
    "exit": lambda: SystemExit(3),
    "wordless": lambda: ValueError(),
}


def quick(context: RunContext):
    for step in range(1, 4):
        context.log_metrics(step, {"loss": 1 / step})
        context.progress(step, 3)
    return {"answer": 42, "resumed": context.resumed}


def slow(context: RunContext):
    """Count to ``steps``, keeping the count in a file as a training keeps its checkpoint."""
    steps = context.run.spec["steps"]
    path = context.folder / "count"
    done = int(path.read_text()) if path.exists() else 0
    if context.resumed:
        context.truncate_metrics(done)
    for step in range(done + 1, steps + 1):
        reason = context.stop_requested()
        if reason:
            raise Stopped(reason)
        time.sleep(context.run.spec.get("seconds", 0.02))
        context.log_metrics(step, {"loss": 1 / step})
        context.progress(step, steps)
        draft = path.with_suffix(".new")
        draft.write_text(str(step))
        context.flush()
        draft.replace(path)
    return {"counted": steps, "threads": os.environ["OMP_NUM_THREADS"]}


def deaf(context: RunContext):
    context.progress(1, 2)
    while True:
        time.sleep(0.05)


def fail(context: RunContext):
    context.progress(7, 9)
    raise ERRORS[context.run.spec["what"]]()


def leave(context: RunContext):
    context.progress(5, 9)
    time.sleep(1.3)
    if context.run.spec["how"] == "segfault":
        ctypes.string_at(0)
    if context.run.spec["how"] == "exit":
        os._exit(9)
    os.kill(os.getpid(), getattr(signal, context.run.spec["how"]))
    time.sleep(60)


def fill(context: RunContext):
    """Write until the disk is full, and leave it so."""
    context.progress(3, 9)
    with (context.folder / "draft").open("wb", buffering=0) as file:
        while True:
            context.log_metrics(3, {"loss": 1.0})
            file.write(bytes(1024))


def speak(context: RunContext):
    print("plain ü")
    print("error", file=sys.stderr)
    os.write(1, b"below python \xff\n")
    os.system("echo from a child")
    return {}


def measure(context: RunContext):
    """Log the moment each point happens, on the clock all processes share."""
    for step in range(1, context.run.spec["steps"] + 1):
        context.log_metrics(step, {"moment": time.monotonic()})
        time.sleep(0.03)
    time.sleep(0.5)
    return {}


def threads(context: RunContext):
    import torch

    variables = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}
    return {"torch": torch.get_num_threads(), "variables": variables}


def born(context: RunContext):
    return {"with": BORN_WITH, "has": os.environ.get("PYTORCH_ALLOC_CONF")}


VERBS = {
    verb.__name__: verb
    for verb in (quick, slow, deaf, fail, leave, fill, speak, measure, threads, born)
} | {"late": "json:absent_function", "absent": "hybridlab_absent:run"}

if __name__ == "__main__":
    code = serve(VERBS, sys.stdin) if sys.argv[1] == "--wait" else work(sys.argv[1], VERBS)
    sys.stdout.flush()
    os._exit(code)
