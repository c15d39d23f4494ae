"""TensorBoard on one folder: ``python -m hybridlab.workflows.tensorboard FOLDER``, until standard input ends.

It serves on a free port of the loopback address and says where as one line of JSON. With torch-tb-profiler installed it
shows the profiler's traces of that folder. Whoever started it holds its input open: when that process goes, so does
this one.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Serve the folder that is the one argument, and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m hybridlab.workflows.tensorboard FOLDER", file=sys.stderr)
        return 2
    from tensorboard import default, program

    board = program.TensorBoard(plugins=default.get_plugins())
    board.configure(
        argv=[
            "tensorboard",
            f"--logdir={arguments[0]}",
            "--host=127.0.0.1",
            "--port=0",
            "--load_fast=false",
            "--reload_interval=5",
        ]
    )
    print(json.dumps({"url": board.launch()}), flush=True)
    sys.stdin.buffer.read()
    for child in multiprocessing.active_children():  # the plugin reads each trace in one
        child.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
