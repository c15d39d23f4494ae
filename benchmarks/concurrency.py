"""Two trainings at once against one alone: the cores are shared out, so two may take at most 2.3 times one.

    python benchmarks/concurrency.py
    python benchmarks/concurrency.py --steps 60 --rounds 1 --output /tmp/concurrency.json

Real runs of a GRU and attention hybrid go through store, supervisor and workers in a home of their own, one alone and
two at once in turn; the time is from the first start to the last end, and the median counts. For comparison, outside
the supervisor: one process with all cores, and two that each take all cores, which is what sharing out avoids.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridlab import runs
from hybridlab.runs.home import home_id
from hybridlab.runs.slots import capacity

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
LIMIT = 2.3
ARCHITECTURE = """\
name: gru-hybrid
width: 64
nodes:
  - {use: gru}
  - {use: attention, heads: 4}
  - {use: gru}
  - {use: swiglu}
"""


@dataclass
class Row:
    """One way to train one or two models."""

    way: str
    runs: int
    threads: int
    seconds: float
    training_seconds: float
    """Of the slower run, start-up left out."""
    times_one: float = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / "concurrency.json")
    options = parser.parse_args()
    given = capacity()
    with tempfile.TemporaryDirectory() as folder, home_in(Path(folder)):
        supervised(1, 20)  # wakes the supervisor and its warm workers
        alone, both = [], []
        for _ in range(options.rounds):
            time.sleep(8)  # the next warm workers import torch meanwhile
            alone.append(supervised(1, options.steps))
            time.sleep(8)
            both.append(supervised(2, options.steps))
        rows = [
            median("one run", 1, given.share, alone),
            median("two runs at once", 2, given.share, both),
        ]
        ways = (("one process with all cores", 1), ("two processes, each with all cores", 2))
        for way, count in ways:
            measured = [unsupervised(count, given.cores, options.steps)]
            rows.append(median(way, count, given.cores, measured))
    for base, other in ((rows[0], rows[1]), (rows[2], rows[3])):
        other.times_one = other.seconds / base.seconds
    print_table(rows)
    result = {
        "benchmark": "concurrency",
        "settings": {"steps": options.steps, "rounds": options.rounds},
        "cores": given.cores,
        "slots": given.slots,
        "machine": platform.machine(),
        "limit": LIMIT,
        "rows": [asdict(row) for row in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    if rows[1].times_one > LIMIT:
        raise SystemExit(f"two runs took {rows[1].times_one:.2f} times one; the line is {LIMIT}")


@contextlib.contextmanager
def home_in(folder: Path) -> Iterator[None]:
    """Use a home of our own, and end its supervisor afterwards."""
    os.environ["HYBRIDLAB_HOME"] = str(folder / "home")
    os.environ.pop("HYBRIDLAB_STORE", None)
    try:
        yield
    finally:
        pid = runs.facts()["supervisor_pid"]
        if pid:
            os.kill(pid, signal.SIGTERM)
        while runs.facts()["supervisor_alive"]:
            time.sleep(0.1)


def spec(steps: int, seed: int) -> dict[str, object]:
    training = {"task": "parity", "steps": steps, "seed": seed, "eval_every": steps}
    return {"architecture": ARCHITECTURE, "training": training | {"device": "cpu"}, "preset": None}


def supervised(count: int, steps: int) -> tuple[float, float]:
    """Train through the supervisor; return seconds from first start to last end, and the slower training's."""
    begun = [runs.submit("train", f"run {n}", spec(steps, n), device="cpu") for n in range(count)]
    return judge([runs.wait(run.id) for run in begun])


def unsupervised(count: int, threads: int, steps: int) -> tuple[float, float]:
    """Train in processes started side by side, each with as many threads as it is told."""
    store = runs.open_store()
    begun = [
        store.create("train", f"run {n}", spec(steps, n), threads=threads, home=f"not {home_id()}")
        for n in range(count)
    ]
    command = [sys.executable, "-m", "hybridlab.workflows"]
    processes = [subprocess.Popen([*command, run.id]) for run in begun]
    for process in processes:
        process.wait()
    return judge([store.get(run.id) for run in begun])


def judge(ended: list[runs.Run]) -> tuple[float, float]:
    for run in ended:
        if run.state is not runs.RunState.DONE:
            raise SystemExit(f"run {run.id} is {run.state}: {run.error}")
    seconds = max(run.ended or 0 for run in ended) - min(run.started or 0 for run in ended)
    return seconds, max(run.result["seconds"] for run in ended if run.result)


def median(way: str, count: int, threads: int, measured: list[tuple[float, float]]) -> Row:
    seconds, training = (statistics.median(column) for column in zip(*measured, strict=True))
    return Row(way, count, threads, seconds, training)


def print_table(rows: list[Row]) -> None:
    print(f"{'':36}{'threads':>8}{'seconds':>9}{'training':>10}{'times one':>11}")
    for row in rows:
        print(
            f"{row.way:36}{row.threads:8}{row.seconds:9.1f}{row.training_seconds:10.1f}"
            f"{row.times_one:11.2f}"
        )


if __name__ == "__main__":
    main()
