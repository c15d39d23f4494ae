"""Trains every design of a grid of small hybrids, and writes what came out to hybridlab/search/trained_table.parquet.

    python benchmarks/trained_table.py                # trains what is missing, then writes the table
    python benchmarks/trained_table.py --jobs 2       # two trainings at a time, each in a process of one thread
    python benchmarks/trained_table.py --finish       # writes the table from what there is, and trains nothing
    python benchmarks/trained_table.py --probe 12     # trains some designs of the grid, and says what they came to

Each training is one line of ``artifacts/trained_table/rows.jsonl`` as soon as it is done: stopped in any way and
started again, it goes on where it was, or where a table of the same settings ended. Seeds come one after the other,
each with the whole grid, so that the table can be written from the first seed on; it holds those that are complete.
What is predicted is worked out when the table is written, by ``predict`` on the training's own batch and length.
Processor time is that of the process that trained: it depends on what else ran, and is kept for nothing but a rough
idea.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from patterns import commit

from hybridlab import __version__
from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.infer import infer
from hybridlab.search.marked import Marked
from hybridlab.search.space import Design
from hybridlab.search.trained_table import FILE, PREDICTED_COLUMNS, read_table, write_table
from hybridlab.tasks.registry import fit
from hybridlab.trace.predict import predict
from hybridlab.training.defaults import prepare

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "artifacts" / "trained_table"
ARCHITECTURE = """\
name: small-hybrid
description: Three token mixers around one channel mixer, which one where being searched.
width: 32
nodes:
  - {id: first, use: attention, heads: 2}
  - {id: second, use: attention, heads: 2}
  - {id: feed, use: mlp, ratio: 2}
  - {id: third, use: attention, heads: 2}
"""
MIXERS = ["attention", "short_conv", "mamba2", "min_gru"]
SEARCH: dict[str, Any] = {
    "width": [16, 24, 32],
    "first": {"use": MIXERS},
    "second": {"use": MIXERS},
    "feed": {"use": ["linear", "mlp", "swiglu"]},
    "third": {"use": MIXERS},
}
"""What varies, as a search file marks it; the space is the table's grid, every design of it."""
SHARED = {"warmup_steps": 10, "weight_decay": 0.0}
TASKS: dict[str, dict[str, Any]] = {
    "mqar": {
        **SHARED,
        "steps": 120,
        "batch": 32,
        "learning_rate": 1e-2,
        "task_params": {"pairs": 3, "vocab": 13, "length": 24},
    },
    "digits_sequence": {**SHARED, "steps": 120, "batch": 32, "learning_rate": 1e-2},
}
"""How each task is trained, so that good hybrids can be told from bad ones soon; all designs alike."""
SEEDS = (0, 1, 2)
LAST = 20
"""Steps at the end of a training whose mean loss is kept."""
One = tuple[Design, str, int]
"""A training: design, task and seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where lines are kept")
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--finish", action="store_true", help="train nothing, write the table")
    parser.add_argument("--probe", type=int, default=0, help="train so many designs, write nothing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    if options.probe:
        probe(options.probe)
        return
    rows = options.folder / "rows.jsonl"
    failed = [] if options.finish else train_missing(rows, options.output, options.jobs)
    finish(rows, options.output)
    if failed:
        raise SystemExit(f"{len(failed)} trainings did not end: {failed[0]} …")


def marked() -> Marked:
    """Return the architecture with what may vary in it."""
    return Marked.read(loads(ARCHITECTURE), SEARCH)


def designs() -> list[Design]:
    """Return every design of the grid, in an order without a pattern, the same each time."""
    space = marked().space
    everything = space.everything()
    order = np.random.default_rng(0).permutation(len(everything))
    return [space.design(row) for row in everything[order]]


def settings(task: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Return what a training is given; it is scored and kept once, at its end."""
    steps = changes.get("steps", TASKS[task]["steps"])
    quiet = {"eval_every": steps, "checkpoint_every": steps, "component_metrics_every": 0}
    own = {"task": task, "seed": seed, "device": "cpu", "target": None}
    return {**TASKS[task], **quiet, **own, **changes}


def fingerprint(task: str) -> str:
    """Return what tells trainings of another architecture, grid or setting apart."""
    about = json.dumps([ARCHITECTURE, TASKS[task], LAST], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:12]


def trained(one: One, **changes: Any) -> dict[str, Any]:
    """Train one design on one task in this process; return its line.

    Accuracies are null where the training diverged, and ``reason`` says so. ``changes`` are other settings.
    """
    from hybridlab.architecture.model import build
    from hybridlab.errors import RunError
    from hybridlab.training.loop import train

    design, name, seed = one
    task, spec = prepare(settings(name, seed, **changes))
    model = build(fit(marked().architecture_of(design), task), task.input_type(), seed=seed)
    losses: deque[float] = deque(maxlen=LAST)

    def note(step: int, metrics: dict[str, float]) -> None:
        if "loss" in metrics:
            losses.append(metrics["loss"])

    metrics: dict[str, float] = {}
    reason, began = "", time.process_time()
    with tempfile.TemporaryDirectory(prefix="hybridlab-table-", dir=memory_folder()) as folder:
        try:
            metrics = train(model, task, spec, folder=Path(folder), on_metrics=note).metrics
        except RunError as error:
            if "became" not in str(error):  # another error than a loss that is not finite
                raise
            reason = str(error)[:200]
    return {
        "design": design,
        "task": name,
        "seed": seed,
        "val_accuracy": metrics.get("val_accuracy"),
        "test_accuracy": metrics.get("test_accuracy"),
        "train_loss": round(float(np.mean(losses)), 6) if losses and not reason else None,
        "steps": spec.steps,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "reason": reason,
        "measured_cpu_s": round(time.process_time() - began, 3),
        "fingerprint": fingerprint(name),
        "version": __version__,
    }


def memory_folder() -> str | None:
    """Return a folder in memory where there is one: what a training keeps is thrown away here."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def work() -> None:
    """Train what comes as lines on standard input; each answer is a line."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        design, task, seed = json.loads(line)
        print(json.dumps(trained((design, task, seed))), flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines there are of today's settings; one that was cut off in the middle counts for nothing."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["task"] in TASKS and row["fingerprint"] == fingerprint(row["task"]):
            found.append(row)
    return found


def lines_of(table: Path) -> list[dict[str, Any]]:
    """Return the trainings that a table of today's settings holds, as the lines that they were."""
    if not table.exists():
        return []
    found = read_table(table)
    today = {"architecture": ARCHITECTURE, "search": SEARCH}
    today["training"] = {task: settings(task, 0) for task in TASKS}
    if any(found.about[name] != wanted for name, wanted in today.items()):
        return []
    names = [choice.name for choice in found.space.choices]
    whole = found.frame.astype(object).where(found.frame.notna(), None)  # as JSON has it
    lines = whole.to_dict("records")
    return [
        {name: value for name, value in line.items() if name not in names}
        | {"design": {name: line[name] for name in names}, "weights": line["predicted_params"]}
        | {"fingerprint": fingerprint(line["task"])}
        for line in lines
    ]


def append(row: dict[str, Any], path: Path) -> None:
    """Add a line, on disk before this returns; it begins with a line's end where the last one was cut off."""
    with path.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        whole = file.tell() == 0
        if not whole:
            file.seek(-1, os.SEEK_END)
            whole = file.read(1) == b"\n"
        file.write((b"" if whole else b"\n") + json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def key(design: Design, task: str, seed: int) -> str:
    """Return what tells one training from another."""
    return json.dumps([design, task, seed], sort_keys=True)


def train_missing(path: Path, table: Path, jobs: int) -> list[One]:
    """Train what has no line yet, in the file or in the table; return what did not end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    there = [*lines_of(table), *read(path)]
    done = {key(row["design"], row["task"], row["seed"]) for row in there}
    grid = designs()
    every = [(design, task, seed) for seed in SEEDS for design in grid for task in TASKS]
    wanted = [one for one in every if key(*one) not in done]
    print(f"{len(wanted):,} trainings to go, {len(every) - len(wanted):,} there", flush=True)
    left, failed = deque(wanted), []
    writing, of = threading.Lock(), commit()

    def serve() -> None:
        for one, answer in answers(left):
            with writing:
                if answer is None:
                    failed.append(one)
                    continue
                append({**answer, "commit": of}, path)
                if len(left) % 100 == 0:
                    print(f"{time.strftime('%H:%M:%S')} {len(left):,} to go", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for ended in [pool.submit(serve) for _ in range(jobs)]:
            ended.result()
    return failed


def answers(left: deque[One]) -> Iterator[tuple[One, dict[str, Any] | None]]:
    """Yield what one process after the other makes of the trainings that are left; None where it ended before."""
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    while left:
        command = [sys.executable, __file__, "--worker"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | single,
            text=True,
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            while left:
                one = left.popleft()
                try:
                    child.stdin.write(json.dumps(one) + "\n")
                    child.stdin.flush()
                    answer = child.stdout.readline()
                except BrokenPipeError:
                    answer = ""
                yield one, json.loads(answer) if answer else None
                if not answer:
                    break


def finish(rows: Path, output: Path) -> None:
    """Write the table of the seeds that are complete."""
    lines = [*lines_of(output), *read(rows)]
    grid = designs()
    there = {key(row["design"], row["task"], row["seed"]) for row in lines}
    seeds = [s for s in SEEDS if all(key(d, task, s) in there for d in grid for task in TASKS)]
    if not seeds:
        raise SystemExit("no seed has every design yet: train on")
    table = table_of([row for row in lines if row["seed"] in seeds])
    space = marked().space
    about = {
        "architecture": ARCHITECTURE,
        "search": SEARCH,
        "choices": [
            {"name": choice.name, "values": list(choice.values), "group": choice.group}
            for choice in space.choices
        ],
        "own_design": marked().own_design(),
        "training": {task: settings(task, 0) for task in TASKS},
        "seeds": seeds,
        "made_by": "benchmarks/trained_table.py",
    }
    write_table(table, about, output)
    cpu_s = table["measured_cpu_s"].sum()
    print(
        f"{output}: {len(table):,} trainings of {space.size:,} designs, seeds {seeds}, "
        f"{output.stat().st_size / 1e3:,.0f} kB; {cpu_s / 60:.1f} minutes of processor time, under load"
    )


def table_of(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return lines as a table, with what is predicted for each design; the last line of a training counts."""
    kept = {key(row["design"], row["task"], row["seed"]): row for row in lines}
    known = Predictions()
    found = []
    for row in kept.values():
        rest = {k: v for k, v in row.items() if k not in ("design", "fingerprint")}
        predicted = known.of(row["design"], row["task"])
        if row["weights"] != predicted["predicted_params"]:
            raise SystemExit(f"{row['design']}: trained {row['weights']} weights, not as predicted")
        text = dump(marked().architecture_of(row["design"]))
        found.append({**row["design"], **rest, **predicted, "architecture": text})
    table = pd.DataFrame(found).drop(columns="weights")
    names = [choice.name for choice in marked().space.choices]
    return table.sort_values(["task", *names, "seed"], ignore_index=True)


class Predictions:
    """What designs are predicted to cost, by design and task."""

    def __init__(self) -> None:
        self._marked = marked()
        self._tasks = {name: prepare(settings(name, 0)) for name in TASKS}
        self._known: dict[str, dict[str, int]] = {}

    def of(self, design: Design, name: str) -> dict[str, int]:
        """Return the predicted columns of a design on a task.

        ``predicted_state_bytes`` is what generating keeps of one sequence at the task's length.
        """
        at = key(design, name, 0)
        if at not in self._known:
            task, spec = self._tasks[name]
            fitted = fit(self._marked.architecture_of(design), task)
            told = predict(fitted, task.input_type(), batch=spec.batch, length=task.length)
            slots = infer(fitted, task.input_type()).slots.values()
            state = sum(
                slot.info.cls.state_bytes(slot.params, slot.context)
                + task.length * slot.info.cls.state_bytes_per_token(slot.params, slot.context)
                for slot in slots
            )
            values = {"state_bytes": state, **vars(told)}
            self._known[at] = {
                column: int(values[column.removeprefix("predicted_")])
                for column in PREDICTED_COLUMNS
            }
        return self._known[at]


def probe(count: int) -> None:
    """Train the first designs of the grid and say what they came to."""
    import torch

    torch.set_num_threads(1)
    for design in designs()[:count]:
        told = []
        for task in TASKS:
            row = trained((design, task, 0))
            told.append(f"{task} {row['val_accuracy']} in {row['measured_cpu_s']} s")
        print(" ".join(map(str, design.values())), *told, sep="  ", flush=True)


if __name__ == "__main__":
    main()
