"""A worker process: ``python -m hybridlab.workflows RUN_ID``, or ``--wait`` for a run on standard input.

The supervisor uses ``--wait``: the process imports torch and the workflows, does once what is slow the first time,
and then stands ready. One that is started for a run finds it on standard input already, and imports only what that
needs.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

from hybridlab.errors import HybridLabError
from hybridlab.runs import worker

VERBS: dict[str, worker.Verb | str] = {
    "compile": "hybridlab.workflows.compiled_run:run",
    "fuse": "hybridlab.workflows.fusion_run:run",
    "lr_find": "hybridlab.workflows.rates:run",
    "plan": "hybridlab.workflows.plan_run:run",
    "precision": "hybridlab.workflows.precision_run:run",
    "profile": "hybridlab.workflows.profile_run:run",
    "regions": "hybridlab.workflows.regions_run:run",
    "search": "hybridlab.workflows.trial:run",
    "train": "hybridlab.workflows.train:run",
    "tune": "hybridlab.workflows.tuning_run:run",
}


def warm() -> None:
    """Import every workflow and let it warm up, by a function ``warm`` of its module; a failure waits for the run."""
    for name in sorted({str(verb).partition(":")[0] for verb in VERBS.values()}):
        try:
            module = importlib.import_module(name)
            getattr(module, "warm", lambda: None)()
        except Exception as error:  # the run's own attempt repeats it, where its log can say so
            print(f"{name} cannot be made ready: {error!r}", file=sys.stderr, flush=True)


def given(source: TextIO) -> bool:
    """Return whether there is something to read by now, or nothing will come; False where a system cannot tell."""
    try:
        return bool(select.select([source], [], [], 0)[0])
    except (OSError, ValueError):
        return False


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say and return the exit code: 0 done, 1 failed, 2 for wrong arguments."""
    if len(arguments) != 1:
        print("usage: python -m hybridlab.workflows RUN_ID | --wait", file=sys.stderr)
        return 2
    if arguments[0] == "--wait":
        if not given(sys.stdin):
            warm()
        return worker.serve(VERBS, sys.stdin)
    try:
        return worker.work(arguments[0], VERBS)
    except HybridLabError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the outcome is written: nothing that libraries do on the way out may change it
