"""Trains every preset on three tasks over three seeds within one small budget: docs/patterns.json and docs/patterns.md.

    python benchmarks/patterns.py                        # trains what is missing, then writes the page
    python benchmarks/patterns.py --page                 # the page alone, from what there is
    python benchmarks/patterns.py --jobs 1 --before nice -n 10

Every training is a process of its own with one thread, and its result is written as it comes: stopped and started
again, it goes on where it was. A preset that has changed since is trained again. All patterns get the same steps, batch
and learning rate; the rate is each task's own default, and nothing is tuned to a pattern. Seeds come one after the
other, so that a table of one seed stands early. Seconds are processor time of the training process, scoring included,
start-up left out, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridlab.architecture.document import load
from hybridlab.architecture.library import Entry, presets

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "patterns.json"
PAGE = ROOT / "docs" / "patterns.md"
TASKS: dict[str, dict[str, Any]] = {
    "mqar": {"pairs": 4, "vocab": 32, "length": 32},
    "selective_copying": {"symbols": 4, "vocab": 16, "length": 32},
    "digits_sequence": {},
}
"""The tasks and their sizes: easier than their defaults, so that the small budget tells patterns apart."""
SEEDS = (0, 1, 2)
BUDGET = {"steps": 250, "batch": 32, "warmup_steps": 25}
"""What every training gets, whatever the pattern and the task; the rest is the task's default."""
LEFT_OUT = {"conv_attention_image": "it looks ahead, and is for images"}
DIVERGED = "the loss was not finite"
ABOUT = """\
# The published patterns, side by side

Every preset of `sample_configs/architectures`, *measured* within one small budget: {steps} steps of {batch} samples
on three tasks, width 64. The learning rate is each task's own default and nothing was tuned to a pattern, so
the tables say what a pattern learns quickly, not what it can learn: what starts slowly stands low here. The presets
differ in size and in time; both are in the tables.

Accuracy on the test split is the mean over seeds {seeds} with its 95 % interval (Student's t: wide with three runs, and
where one run has found the trick and another has not, it says little more than that). Seconds are processor time of one
training with one thread, scoring included; other work on the machine lengthens them by what caches and memory are
shared.

Left out: {left_out}. {told}

Machine: {machine}. Dates: {dates}. Commits: {commits}. The command, which goes on where it was stopped:
`python benchmarks/patterns.py`. Every training by itself stands in [patterns.json](patterns.json)."""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for a two-sided 95 % interval of the mean of so many runs."""


@dataclass(frozen=True)
class Result:
    """One training: what it was of, what came out, and where."""

    pattern: str
    fingerprint: str
    task: str
    seed: int
    budget: dict[str, Any]
    accuracy: float | None
    """On the test split, of the final weights; None where the loss was not finite."""
    cpu_seconds: float
    params: int
    chance: float
    commit: str
    date: str
    machine: str


def key(fingerprint: str, task: str, seed: int, budget: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes two trainings the same."""
    return fingerprint, task, seed, json.dumps(budget, sort_keys=True)


def of_task(budget: dict[str, Any], task: str) -> dict[str, Any]:
    """Return the budget of a task, with the task's sizes."""
    return budget | {"task_params": TASKS[task]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--patterns", nargs="+", help="names of presets; default: all")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=BUDGET["steps"])
    parser.add_argument("--batch", type=int, default=BUDGET["batch"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="train nothing, write the page")
    parser.add_argument("--one", nargs=3, metavar=("PATTERN", "TASK", "SEED"), help="train one")
    parser.add_argument(
        "--before", nargs=argparse.REMAINDER, default=[], help="a command before each training"
    )
    options = parser.parse_args()
    budget = BUDGET | {"steps": options.steps, "batch": options.batch}
    if options.one:
        pattern, task, seed = options.one
        print(json.dumps(asdict(trained(pattern, task, int(seed), of_task(budget, task)))))
        return
    failed = [] if options.page else run_missing(options, budget)
    if options.output == RESULTS:
        PAGE.write_text(page(read(options.output), budget), encoding="utf-8")
        print(f"written to {PAGE}")
    if failed:
        raise SystemExit("failed: " + ", ".join(failed))


def patterns() -> list[Entry]:
    """Return the presets that can be trained on all tasks."""
    return [entry for entry in presets() if entry.name not in LEFT_OUT]


def read(path: Path) -> list[Result]:
    """Return the results there are."""
    if not path.exists():
        return []
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]


def run_missing(options: argparse.Namespace, budget: dict[str, Any]) -> list[str]:
    """Train what has no result yet, and write each result as it comes; return what failed."""
    done = {key(r.fingerprint, r.task, r.seed, r.budget) for r in read(options.output)}
    wanted = [
        (entry.name, task, seed)
        for seed in options.seeds
        for task in options.tasks
        for entry in patterns()
        if not options.patterns or entry.name in options.patterns
        if key(load(entry.path).fingerprint, task, seed, of_task(budget, task)) not in done
    ]
    print(f"{len(wanted)} trainings to go, {len(done)} results there", flush=True)
    writing, failed = threading.Lock(), []

    def train_and_write(number: int, one: tuple[str, str, int]) -> None:
        words = f"{one[0]} on {one[1]}, seed {one[2]}"
        began = time.perf_counter()
        answer = in_own_process(one, options)
        with writing:
            if isinstance(answer, str):
                failed.append(words)
                print(f"{words} failed: {answer}", flush=True)
                return
            write([*read(options.output), answer], options.output)
            score = DIVERGED if answer.accuracy is None else f"accuracy {answer.accuracy:.3f}"
            print(
                f"{number + 1}/{len(wanted)} {words}: {score}, {answer.cpu_seconds:.1f} s of CPU, "
                f"{time.perf_counter() - began:.0f} s on the wall",
                flush=True,
            )

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(train_and_write, range(len(wanted)), wanted))
    return failed


def in_own_process(one: tuple[str, str, int], options: argparse.Namespace) -> Result | str:
    """Train in a new process of one thread; return the result, or the last line of what it complained of."""
    command = [*options.before, sys.executable, __file__, "--one", *map(str, one)]
    command += ["--steps", str(options.steps), "--batch", str(options.batch)]
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | single)
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return Result(**json.loads(ended.stdout.splitlines()[-1]))


def write(results: Iterable[Result], path: Path) -> None:
    """Write all results under another name and rename, so that a stop leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": "patterns", "results": [asdict(result) for result in results]}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def trained(pattern: str, task_name: str, seed: int, budget: dict[str, Any]) -> Result:
    """Train one pattern on one task in this process."""
    import torch

    from hybridlab.architecture.library import open_architecture
    from hybridlab.architecture.model import build
    from hybridlab.errors import RunError
    from hybridlab.tasks.registry import fit
    from hybridlab.training.defaults import prepare
    from hybridlab.training.loop import train

    torch.set_num_threads(1)
    steps = budget["steps"]
    quiet = {"eval_every": steps, "checkpoint_every": steps, "component_metrics_every": 0}
    task, spec = prepare({"task": task_name, "seed": seed, "device": "cpu", **budget, **quiet})
    architecture = open_architecture(pattern)
    model = build(fit(architecture, task), task.input_type(), seed=seed)
    accuracy = None
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        try:
            accuracy = train(model, task, spec, folder=Path(folder)).metrics["test_accuracy"]
        except RunError as error:
            if "became" not in str(error):  # another error than a loss that is not finite
                raise
        cpu_seconds = time.process_time() - began
    return Result(
        pattern=pattern,
        fingerprint=architecture.fingerprint,
        task=task_name,
        seed=seed,
        budget=budget,
        accuracy=accuracy,
        cpu_seconds=cpu_seconds,
        params=sum(weight.numel() for weight in model.parameters()),
        chance=task.baselines()["chance"],
        commit=commit(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=f"{processor()}, torch {torch.__version__}",
    )


def commit() -> str:
    """Return the commit that is checked out; empty where there is no repository."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """Return how many processors of which name there are."""
    name = platform.processor() or platform.machine()
    if (about := Path("/proc/cpuinfo")).exists():
        found = re.search(r"^model name\s*: (.+)$", about.read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{os.cpu_count()} x {name}"


def page(results: list[Result], budget: dict[str, Any]) -> str:
    """Return the page: one table a task, the best pattern first, from results of this budget and today's presets."""
    entries = {load(entry.path).fingerprint: entry for entry in patterns()}
    valid = [r for r in results if r.fingerprint in entries and r.budget == of_task(budget, r.task)]
    lacking = len(entries) * len(TASKS) * len(SEEDS) - len(valid)
    told = (
        "All patterns have all seeds."
        if not lacking
        else f"**Not finished: {lacking} of {lacking + len(valid)} trainings are still to come.**"
    )
    facts = {
        **budget,
        "seeds": ", ".join(map(str, SEEDS)),
        "left_out": "; ".join(f"`{name}`: {reason}" for name, reason in LEFT_OUT.items()),
        "told": told,
        "machine": "; ".join(sorted({r.machine for r in valid})) or "no result yet",
        "dates": ", ".join(sorted({r.date for r in valid})),
        "commits": ", ".join(sorted({r.commit for r in valid})),
    }
    lines = [ABOUT.format_map(facts)]
    for task in TASKS:
        found = [r for r in valid if r.task == task]
        if found:
            sizes = (
                ", ".join(f"{name} {value}" for name, value in TASKS[task].items()) or "as it is"
            )
            lines.append(f"## {task}\n\nSizes: {sizes}. Guessing gives {found[0].chance:.3f}.")
            lines.append("\n".join(table(found, entries)))
    return "\n\n".join(lines) + "\n"


def table(results: list[Result], entries: dict[str, Entry]) -> Iterator[str]:
    """Yield a task's table, line by line."""
    yield "| pattern | accuracy | runs | parameters | CPU s a training |"
    yield "| --- | --- | --- | --- | --- |"
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.fingerprint, []).append(result)
    for fingerprint, runs in sorted(groups.items(), key=lambda item: -mean_accuracy(item[1])):
        entry = entries[fingerprint]
        seconds = statistics.mean(run.cpu_seconds for run in runs)
        cells = (
            f"[{entry.name}]({entry.source})",
            accuracy_words(runs),
            str(len(runs)),
            f"{runs[0].params:,}",
            f"{seconds:.1f}",
        )
        yield f"| {' | '.join(cells)} |"


def mean_accuracy(runs: list[Result]) -> float:
    """Return the mean over the runs that came to an end; below all others where none did."""
    found = [run.accuracy for run in runs if run.accuracy is not None]
    return statistics.mean(found) if found else -1.0


def accuracy_words(runs: list[Result]) -> str:
    """Return the mean accuracy and half of its 95 % interval."""
    found = [run.accuracy for run in runs if run.accuracy is not None]
    lost = len(runs) - len(found)
    words = f"{mean_accuracy(runs):.3f}" if found else "none"
    if len(found) in T_95:
        words += f" ± {T_95[len(found)] * statistics.stdev(found) / len(found) ** 0.5:.3f}"
    return words + (f" ({lost} diverged)" if lost else "")


if __name__ == "__main__":
    main()
