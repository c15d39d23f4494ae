"""What pages ask the warm processes: the palette, the tasks, whether an architecture is right, what it will cost."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import hybridlab
from hybridlab.architecture import recent
from hybridlab.architecture.fixes.fix import Fix, from_dict
from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.home import home
from hybridlab.ui.worker_pool import Answer, WorkerPool

Entry = dict[str, Any]
_LONG_S = 300.0
_CATALOGUE, _TASKS = _LISTS = ("catalogue", "tasks")


@functools.cache
def pool() -> WorkerPool:
    """Return the processes that all sessions of this server share."""
    shared = WorkerPool()
    atexit.register(shared.close)
    return shared


@dataclass(frozen=True)
class Shapes:
    """What an architecture is looked at with: a task with its parameters, and a batch of samples."""

    task: str | None = None
    task_params: tuple[tuple[str, Any], ...] = ()
    batch: int = 32

    def args(self, text: str) -> dict[str, Any]:
        """Return the question's arguments for an architecture's text."""
        return {
            "text": text,
            "task": self.task,
            "task_params": dict(self.task_params),
            "batch": self.batch,
        }


def check(text: str, shapes: Shapes, owner: str, wait_s: float = 0.0) -> Answer | None:
    """Ask for every problem and every edge's type; None while there is no answer yet."""
    return _ask("check", text, shapes, owner, wait_s)


def predict(text: str, shapes: Shapes, owner: str, wait_s: float = 0.0) -> Answer | None:
    """Ask for parameters, FLOPs, memory and time, in total and by component; None while there is no answer yet."""
    return _ask("predict", text, shapes, owner, wait_s)


def predict_several(
    text: str, settings: Mapping[str, Any], batch: int, owner: str, wait_s: float = 0.0
) -> Answer | None:
    """Ask what a step on the several tasks of the settings costs, all heads in it; None while there is no answer."""
    args = {"text": text, "settings": dict(settings), "batch": batch}
    return pool().ask("predict_several", args, owner=owner, wait_s=wait_s)


def _ask(verb: str, text: str, shapes: Shapes, owner: str, wait_s: float) -> Answer | None:
    """Ask about a text; its content goes along where it is at hand, since reading YAML takes longer than the answer."""
    beside = {"content": recent.content_of(text)}
    return pool().ask(verb, shapes.args(text), beside=beside, owner=owner, wait_s=wait_s)


def prepare(text: str, settings: Mapping[str, Any]) -> Answer:
    """Ask whether an architecture can be trained with these settings; the value has them complete."""
    return pool().submit("prepare", {"text": text, "settings": dict(settings)}).result()


def trainable(
    text: str, settings: Mapping[str, Any], owner: str, wait_s: float = 0.0
) -> Answer | None:
    """Ask as ``prepare`` does, without waiting for longer than told; None while there is no answer yet."""
    args = {"text": text, "settings": dict(settings)}
    return pool().ask("prepare", args, owner=owner, wait_s=wait_s)


def update_memory(
    text: str, settings: Mapping[str, Any], owner: str, wait_s: float = 0.0
) -> Answer | None:
    """Ask what weights, gradients and optimisers keep in bytes, by group of the settings; None while unanswered."""
    args = {"text": text, "settings": dict(settings)}
    return pool().ask("update_memory", args, owner=owner, wait_s=wait_s)


def published(source: Mapping[str, Any]) -> Answer:
    """Ask for a published model as an architecture's text: its ``config`` or ``pattern``, and whether in ``small``."""
    return pool().submit("import", dict(source)).result()


def families() -> Mapping[str, str]:
    """Return the families of published models that are read, with their papers; none until a process has answered."""
    answer = pool().ask("families", {})
    return answer.value if answer is not None and not answer.problems else {}


def python_file(text: str, shapes: Shapes, owner: str, wait_s: float) -> Answer | None:
    """Ask for the architecture as one Python file; None while there is no answer yet."""
    return _ask("python_file", text, shapes, owner, wait_s)


def component_page(name: str, wait_s: float = 0.0) -> Answer | None:
    """Ask for a component's page: title, sections in Markdown, data flow; None while there is no answer yet."""
    return pool().ask("component_page", {"name": name}, wait_s=wait_s)


def data_card(task: str, params: Mapping[str, Any], wait_s: float = 0.0) -> Answer | None:
    """Ask for a task's data card: examples as text, sizes, source, baselines; None while there is no answer yet."""
    return pool().ask("data_card", {"task": task, "task_params": dict(params)}, wait_s=wait_s)


def trade_off(
    text: str,
    settings: Mapping[str, Any],
    after: str,
    owner: str,
    wait_s: float = 0.0,
    *,
    offload: str = "",
) -> Answer | None:
    """Ask for the curve of peak and time of a training's step; None while there is no answer yet.

    ``after`` names what has changed the times that are known, such as the last measurement, so that it is asked anew.
    With ``offload`` what components keep may also leave memory, in this type.
    """
    args = {"text": text, "settings": dict(settings), "after": after, "offload": offload}
    return _long("trade_off", args, owner, wait_s)


def plan_timeline(
    text: str,
    settings: Mapping[str, Any],
    after: str,
    plan: Mapping[str, Any],
    owner: str,
    wait_s: float = 0.0,
    *,
    offload: str = "",
) -> Answer | None:
    """Ask for what is in memory over the step that a plan makes; None while there is no answer yet."""
    step = {"text": text, "settings": dict(settings), "after": after, "offload": offload}
    args = {**step, "plan": dict(plan)}
    return _long("plan_timeline", args, owner, wait_s)


def fitting(
    text: str, settings: Mapping[str, Any], memory: str, axis: str, owner: str, wait_s: float = 0.0
) -> Answer | None:
    """Ask for the largest batch or length that fits an amount of memory or a card; None while unanswered."""
    args = {"text": text, "settings": dict(settings), "memory": memory, "axis": axis}
    return _long("fit", args, owner, wait_s)


def caches(
    text: str,
    settings: Mapping[str, Any],
    positions: Sequence[int],
    batch: int,
    growth: str,
    owner: str,
    wait_s: float = 0.0,
) -> Answer | None:
    """Ask what components keep between two positions, predicted and measured; None while unanswered."""
    args = {
        "text": text,
        "settings": dict(settings),
        "positions": list(positions),
        "batch": batch,
        "growth": growth,
    }
    return _long("caches", args, owner, wait_s)


def buckets(
    text: str, settings: Mapping[str, Any], counts: Sequence[int], owner: str, wait_s: float = 0.0
) -> Answer | None:
    """Ask what sorting samples by length saves, predicted and measured; None while unanswered."""
    args = {"text": text, "settings": dict(settings), "counts": list(counts)}
    return _long("buckets", args, owner, wait_s)


def not_sorted(settings: Mapping[str, Any], owner: str, wait_s: float = 0.0) -> Answer | None:
    """Ask why a training cannot sort its samples by length: nothing where it can; None while unanswered."""
    return pool().ask("not_sorted", {"settings": dict(settings)}, owner=owner, wait_s=wait_s)


def _long(verb: str, args: Mapping[str, Any], owner: str, wait_s: float) -> Answer | None:
    """Ask what may take minutes for large architectures."""
    future = pool().submit(verb, args, owner=owner, timeout_s=_LONG_S)
    try:
        return future.result(timeout=wait_s)
    except TimeoutError:
        return None


def survey_search(text: str, owner: str, wait_s: float = 0.0) -> Answer | None:
    """Ask what a search's text comes to: its space, what of it can be built, a trial's time; None while unanswered."""
    return pool().ask("survey_search", {"text": text}, owner=owner, wait_s=wait_s)


def true_front(file: Mapping[str, Any], wait_s: float = 0.0) -> Answer | None:
    """Ask for the true front of a closed form's search; None while there is no answer yet."""
    return pool().ask("true_front", {"file": dict(file)}, wait_s=wait_s)


def components() -> list[Entry]:
    """Return the palette: name, kind, title, summary, cost, paper and parameter schema of every component."""
    return _kept(_CATALOGUE)


def components_if_known() -> list[Entry]:
    """Return the palette where a start of this version has read it before, else nothing; never waits."""
    return components() if _file(_CATALOGUE).exists() else []


def lists_read() -> bool:
    """Return whether palette and tasks are at hand, so that asking for them takes no time."""
    return _kept.cache_info().currsize == len(_LISTS)


def tasks() -> list[Entry]:
    """Return the tasks: name, title, summary, source, metric, baselines and parameter schema."""
    return _kept(_TASKS)


def component(name: str) -> Entry | None:
    """Return a component's entry in the palette, or None where there is none of that name."""
    return next((entry for entry in components() if entry["name"] == name), None)


def task(name: str) -> Entry | None:
    """Return a task's entry, or None where there is none of that name."""
    return next((entry for entry in tasks() if entry["name"] == name), None)


@functools.cache
def _kept(verb: str) -> list[Entry]:
    """Return a list that changes only with the program: from the file kept for this version, else from a worker."""
    file = _file(verb)
    try:
        return list(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        answer = pool().submit(verb, {}).result()
    if answer.problems:
        raise HybridLabError(answer.problems)
    _keep(file, answer.value)
    return list(answer.value)


def _file(verb: str) -> Path:
    return home() / "cache" / f"{verb}-{_version()}.json"


def _keep(file: Path, content: Any) -> None:
    """Write a list for the next start; a folder that cannot be written only costs the next start some seconds."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(file)
    except OSError:
        return


@functools.cache
def _version() -> str:
    """Return the version and a digest of the files that the lists are made from."""
    root = Path(hybridlab.__file__).parent
    files = sorted([*root.glob("components/**/*.py"), *root.glob("tasks/**/*.py")])
    stamps = [(str(file), file.stat().st_mtime_ns) for file in files]
    return f"{hybridlab.__version__}-{hashlib.sha256(repr(stamps).encode()).hexdigest()[:12]}"


@functools.cache
def palette() -> dict[str, Entry]:
    """Return the palette by name."""
    return {entry["name"]: entry for entry in components()}


def devices() -> list[Entry]:
    """Return this machine's devices with their memory in bytes; the main memory alone until a process has answered."""
    answer = pool().ask("devices", {})
    if answer is not None and not answer.problems:
        return list(answer.value)
    total = psutil.virtual_memory().total
    return [{"name": "cpu", "title": "this machine", "memory_bytes": total}]


def fixes_of(value: Mapping[str, Any]) -> dict[Problem, tuple[Fix, ...]]:
    """Return the fixes that a check's answer offers for its problems."""
    offered = value.get("fixes", ())
    return {
        problem: tuple(map(from_dict, found))
        for problem, found in zip(problems_of(value), offered, strict=False)
    }


def problems_of(value: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of a check's answer."""
    return [Problem(**problem) for problem in value.get("problems", ())]
