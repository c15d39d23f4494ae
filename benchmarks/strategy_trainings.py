"""Trainings of the strategies as jobs: run in a pool of processes, each result kept as it comes.

A job is a mapping of plain values that says all of what is trained; a result is kept under its job, so that a benchmark
that was broken off goes on where it was.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Found = Mapping[str, dict[str, Any]]
"""Results by the key of their job."""
ROOT = Path(__file__).parent.parent
QUIET = {"device": "cpu", "component_metrics_every": 0}


@dataclass(frozen=True)
class Budget:
    """How much every section trains: seeds, and a share of its own steps."""

    seeds: tuple[int, ...]
    share: float

    def steps(self, usual: int) -> int:
        """Return a section's steps, at least ten."""
        return max(10, round(usual * self.share))


@dataclass(frozen=True)
class Kept:
    """One result: its job, what came out, processor seconds and seconds on the wall, and where and when."""

    job: Job
    result: dict[str, Any]
    cpu_seconds: float
    seconds: float
    commit: str
    date: str


def key(job: Job) -> str:
    """Return what makes two jobs the same."""
    return json.dumps(job, sort_keys=True)


def read(path: Path) -> list[Kept]:
    """Return the results there are."""
    if not path.exists():
        return []
    return [Kept(**row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]


def write(path: Path, results: Iterable[Kept], more: Mapping[str, Any] | None = None) -> None:
    """Write all results under another name and rename, so that a stop leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": "strategies", **(more or {}), "results": list(map(asdict, results))}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def run_all(
    jobs: list[Job], run: Callable[[Job], dict[str, Any]], count: int, path: Path
) -> list[str]:
    """Run jobs in a pool of processes and keep each result as it comes; return what failed, in words."""
    failed: list[str] = []
    at = commit()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(_timed, run, job): job for job in jobs}
        for number, future in enumerate(as_completed(waiting), 1):
            job = waiting[future]
            words = ", ".join(str(v) for k, v in job.items() if k in ("section", "of", "arm"))
            words += f", seed {job['seed']}"
            try:
                result, cpu, wall = future.result()
            except Exception as error:
                failed.append(f"{words}: {error!r}"[:300])
                print(f"{words} failed", *traceback.format_exception(error), flush=True)
                continue
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            write(path, [*read(path), Kept(job, result, round(cpu, 2), round(wall, 2), at, today)])
            told = {k: v for k, v in result.items() if isinstance(v, (int, float)) or v is None}
            print(
                f"{number}/{len(jobs)} {words}: {told}, {cpu:.0f} s of CPU, {wall:.0f} s",
                flush=True,
            )
    return failed


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _timed(run: Callable[[Job], dict[str, Any]], job: Job) -> tuple[dict[str, Any], float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = run(job)
    return result, time.process_time() - cpu, time.perf_counter() - wall


@dataclass(frozen=True)
class Trained:
    """A trained model with its task, its settings, the metrics of its end and every metric on the way."""

    model: Any
    task: Any
    spec: Any
    metrics: dict[str, float]
    curves: dict[str, tuple[list[int], list[float]]]


def trained(text: str, settings: Mapping[str, Any], folder: Path | None = None) -> Trained:
    """Train a text's architecture in this process; it is scored and kept once, at the end.

    Raises:
        RunError: the loss became something that is not finite.
    """
    from hybridlab.architecture.document import loads
    from hybridlab.architecture.model import build
    from hybridlab.tasks.registry import fit
    from hybridlab.training.defaults import prepare
    from hybridlab.training.loop import train

    ends = {"eval_every": settings["steps"], "checkpoint_every": settings["steps"]}
    task, spec = prepare({**QUIET, **ends, **settings})
    model = build(fit(loads(text), task), task.input_type(), seed=spec.seed)
    curves: dict[str, tuple[list[int], list[float]]] = {}

    def note(step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            curve = curves.setdefault(name, ([], []))
            curve[0].append(step)
            curve[1].append(value)

    with tempfile.TemporaryDirectory() as scratch:
        where = folder or Path(scratch)
        where.mkdir(parents=True, exist_ok=True)
        result = train(model, task, spec, folder=where, on_metrics=note)
    if folder is not None:
        (folder / "architecture.yaml").write_text(text, encoding="utf-8")
        (folder / "training.json").write_text(spec.model_dump_json(), encoding="utf-8")
    return Trained(model, task, spec, result.metrics, curves)


def values(found: Found, jobs: Iterable[Job], name: str) -> list[float]:
    """Return one figure of each job's result."""
    return [found[key(job)][name] for job in jobs]


def preset(name: str) -> str:
    """Return the text of a preset."""
    from hybridlab.architecture.library import find

    return find(name).read_text(encoding="utf-8")


def fingerprint(text: str) -> str:
    """Return what tells an architecture from another."""
    from hybridlab.architecture.document import loads

    return loads(text).fingerprint


def commit() -> str:
    """Return the commit that is checked out; empty where there is no repository."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def single_threads() -> None:
    """Have processes that are started from now on use one thread."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
