"""Five architectures on MAD's six tasks in small, ranked beside what was published: docs/mad_ranking.json and .md.

    python benchmarks/mad_ranking.py                        # trains what is missing, then writes the page
    python benchmarks/mad_ranking.py --page                 # the page alone, from what there is
    python benchmarks/mad_ranking.py --rates 1e-3 3e-3 1e-2 # the rate is chosen on validation
    python benchmarks/mad_ranking.py --jobs 2 --before nice -n 10

What is small, and how small, is in ``mad_profile.py``. Every training is a process of its own with one thread, and its
result is written as it comes: stopped and started again, it goes on where it was. A changed architecture or profile is
trained again. Seconds are processor time of the training process, scoring included, start-up left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mad_page import Result, page
from mad_profile import RATE, SUBJECTS, TASKS, budget, text_of
from patterns import commit, processor

from hybridlab.architecture.document import loads

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "mad_ranking.json"
PAGE = ROOT / "docs" / "mad_ranking.md"
One = tuple[str, str, int, float]
"""A training: architecture, task, seed and learning rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--architectures", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[RATE], help="learning rates")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="train nothing, write the page")
    parser.add_argument("--one", nargs=4, metavar=("ARCHITECTURE", "TASK", "SEED", "RATE"))
    parser.add_argument(
        "--before", nargs=argparse.REMAINDER, default=[], help="a command before each; put it last"
    )
    options = parser.parse_args()
    if options.one:
        subject, task, seed, rate = options.one
        print(json.dumps(asdict(trained((subject, task, int(seed), float(rate))))))
        return
    failed = [] if options.page else run_missing(options)
    where = PAGE if options.output == RESULTS else options.output.with_suffix(".md")
    where.write_text(page(valid(read(options.output))), encoding="utf-8")
    print(f"written to {where}")
    if failed:
        raise SystemExit("failed: " + ", ".join(failed))


def read(path: Path) -> list[Result]:
    """Return the results there are."""
    if not path.exists():
        return []
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]


def write(results: Iterable[Result], path: Path) -> None:
    """Write all results under another name and rename, so that a stop leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": "mad_ranking", "results": [asdict(result) for result in results]}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def fingerprint(subject: str, task: str) -> str:
    """Return what tells an architecture from another, as it is trained on a task."""
    return loads(text_of(subject, task)).fingerprint


def valid(results: Iterable[Result]) -> list[Result]:
    """Return the results of today's architectures and profile."""
    return [
        one
        for one in results
        if one.architecture in SUBJECTS and one.task in TASKS
        if one.fingerprint == fingerprint(one.architecture, one.task)
        if one.budget == budget(one.task)
    ]


def missing(results: Iterable[Result], wanted: Iterable[One]) -> list[One]:
    """Return the trainings that have no result yet."""
    done = {(r.architecture, r.task, r.seed, r.learning_rate) for r in valid(results)}
    return [one for one in wanted if one not in done]


def run_missing(options: argparse.Namespace) -> list[str]:
    """Train what has no result yet, and write each result as it comes; return what failed."""
    every = [
        (subject, task, seed, rate)
        for seed in options.seeds
        for rate in options.rates
        for task in options.tasks
        for subject in options.architectures
    ]
    wanted = missing(read(options.output), every)
    print(f"{len(wanted)} trainings to go, {len(every) - len(wanted)} results there", flush=True)
    writing, failed = threading.Lock(), []

    def train_and_write(number: int, one: One) -> None:
        words = f"{one[0]} on {one[1]}, seed {one[2]}, rate {one[3]:g}"
        began = time.perf_counter()
        answer = in_own_process(one, options.before)
        with writing:
            if isinstance(answer, str):
                failed.append(words)
                print(f"{words} failed: {answer}", flush=True)
                return
            write([*read(options.output), answer], options.output)
            score = "diverged" if answer.accuracy is None else f"accuracy {answer.accuracy:.3f}"
            print(
                f"{number + 1}/{len(wanted)} {words}: {score}, {answer.cpu_seconds:.1f} s of CPU, "
                f"{time.perf_counter() - began:.0f} s on the wall",
                flush=True,
            )

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(train_and_write, range(len(wanted)), wanted))
    return failed


def in_own_process(one: One, before: list[str]) -> Result | str:
    """Train in a new process of one thread; return the result, or the last line of what it complained of."""
    command = [*before, sys.executable, __file__, "--one", *map(str, one)]
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | single)
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return Result(**json.loads(ended.stdout.splitlines()[-1]))


def settings(one: One) -> dict[str, Any]:
    """Return what a training is given; it is scored and kept once, at its end."""
    _, task, seed, rate = one
    of_task = budget(task)
    steps = of_task["steps"]
    quiet = {"eval_every": steps, "checkpoint_every": steps, "component_metrics_every": 0}
    own = {"task": task, "seed": seed, "learning_rate": rate, "device": "cpu", "target": None}
    return {**of_task, **own, **quiet}


def trained(one: One) -> Result:
    """Train one architecture on one task in this process."""
    import torch

    from hybridlab.architecture.model import build
    from hybridlab.errors import RunError
    from hybridlab.tasks.registry import fit
    from hybridlab.training.defaults import prepare
    from hybridlab.training.loop import train

    torch.set_num_threads(1)
    subject, task_name, seed, rate = one
    task, spec = prepare(settings(one))
    architecture = loads(text_of(subject, task_name))
    model = build(fit(architecture, task), task.input_type(), seed=seed)
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        try:
            metrics = train(model, task, spec, folder=Path(folder)).metrics
        except RunError as error:
            if "became" not in str(error):  # another error than a loss that is not finite
                raise
        cpu_seconds = time.process_time() - began
    return Result(
        architecture=subject,
        fingerprint=architecture.fingerprint,
        task=task_name,
        seed=seed,
        learning_rate=rate,
        budget=budget(task_name),
        val_accuracy=metrics.get("val_accuracy"),
        accuracy=metrics.get("test_accuracy"),
        cpu_seconds=round(cpu_seconds, 2),
        params=sum(weight.numel() for weight in model.parameters()),
        chance=task.baselines()["chance"],
        commit=commit(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=f"{processor()}, torch {torch.__version__}",
    )


if __name__ == "__main__":
    main()
