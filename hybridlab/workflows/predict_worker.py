"""A warm process that answers questions about architectures: ``python -m hybridlab.workflows.predict_worker``.

One JSON object a line on stdin, one on stdout: ``{"id": 7, "verb": "check", "args": {…}}`` gives
``{"id": 7, "value": {…}}`` or ``{"id": 7, "problems": [{…}]}``. A question may bring the plain ``content`` of its
text, which then is not read again. It ends when stdin does. Pages ask it because tracing needs torch and holds the
interpreter, which the page server must not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import torch

from hybridlab.architecture import recent
from hybridlab.architecture.complete import complete
from hybridlab.architecture.document import loads, parse
from hybridlab.architecture.fixes.offer import Survey, fixes
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import catalogue, palette
from hybridlab.errors import HybridLabError, Problem
from hybridlab.hardware.devices import devices
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import catalogue as task_catalogue
from hybridlab.tasks.registry import task
from hybridlab.trace.predict import predict
from hybridlab.workflows.launch import prepared

Args = Mapping[str, Any]
_ADDRESS = re.compile(r"(?<![\w.])nodes\[(\d+)\]")


def _catalogue(args: Args) -> Any:
    return catalogue()


def _tasks(args: Args) -> Any:
    return task_catalogue()


def _check(args: Args) -> Any:
    """Type every edge of the text's architecture, with the task's input and head where it has none."""
    architecture = loads(str(args["text"]))
    chosen = _task(args)
    completed = _completed(architecture, chosen)
    inference = _inferred(completed, chosen, args)
    problems = _addressed(inference, completed, architecture)
    offered = (
        fixes(str(args["text"]), problems, _entries(), lambda text: _survey(text, chosen, args))
        if problems
        else []
    )
    return {
        "problems": [problem.as_dict() for problem in problems],
        "fixes": [[fix.as_dict() for fix in found] for found in offered],
        "edges": {path: str(type_) for path, type_ in inference.edges.items()},
        "input": str(inference.input),
        "output": str(inference.output) if inference.output else "",
        "supplied": [
            node.id for node in completed.nodes if node.id not in {n.id for n in architecture.nodes}
        ],
    }


def _survey(text: str, chosen: Task | None, args: Args) -> Survey:
    """Look at a text that a fix made, as ``_check`` looks at what the user wrote."""
    architecture, problems = parse(text)
    if architecture is None:
        return Survey(0, tuple(problems))
    completed = _completed(architecture, chosen)
    inference = _inferred(completed, chosen, args)
    stage = 1 if inference.scope is None else 2
    return Survey(stage, tuple(_addressed(inference, completed, architecture)))


def _inferred(completed: Architecture, chosen: Task | None, args: Args) -> Inference:
    return infer(
        completed,
        chosen.input_type() if chosen else None,
        batch=int(args.get("batch", 2)),
        length=_length(args, chosen),
    )


def _addressed(
    inference: Inference, completed: Architecture, architecture: Architecture
) -> list[Problem]:
    shift = _shift(architecture, completed)
    return [_shifted(problem, shift, architecture) for problem in inference.problems]


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in catalogue()}


def _predict(args: Args) -> Any:
    """Predict parameters, FLOPs, memory and time of the text's architecture on a task's shapes."""
    architecture = loads(str(args["text"]))
    chosen = _task(args)
    completed = _completed(architecture, chosen)
    prediction = predict(
        completed,
        chosen.input_type() if chosen else None,
        batch=int(args.get("batch", 2)),
        length=_length(args, chosen),
    )
    return {**prediction.as_dict(), "fingerprint": architecture.fingerprint}


def _predict_several(args: Args) -> Any:
    """Predict a step on several tasks, all heads and what balancing asks for in it; settings name the tasks."""
    from hybridlab.tasks.registry import fit
    from hybridlab.tasks.several import SeveralTasks
    from hybridlab.training.defaults import prepare
    from hybridlab.training.several_cost import several_cost

    chosen, spec = prepare(dict(args["settings"]))
    assert isinstance(chosen, SeveralTasks) and spec.tasks is not None
    completed = fit(loads(str(args["text"])), chosen)
    return several_cost(completed, chosen, spec.tasks, int(args["batch"]))


def _length(args: Args, chosen: Task | None) -> int:
    return int(args.get("length") or (chosen.length if chosen else 64))


def _devices(args: Args) -> Any:
    """Return the devices of this machine with their memory."""
    return [device.as_dict() for device in devices()]


def _prepare(args: Args) -> Any:
    """Check that the text's architecture can be trained with the settings; return them complete, ready to submit."""
    return prepared(str(args["text"]), dict(args["settings"]))


def _update_memory(args: Args) -> Any:
    """Return what weights, gradients and optimisers of a training keep, by group of its settings."""
    from hybridlab.architecture.model import build
    from hybridlab.tasks.registry import fit
    from hybridlab.training.defaults import prepare
    from hybridlab.training.optimiser_memory import optimiser_memory

    chosen, spec = prepare(dict(args["settings"]))
    completed = fit(loads(str(args["text"])), chosen)
    model = build(completed, chosen.input_type(), device="meta")
    return [group.as_dict() for group in optimiser_memory(model, spec)]


def _import(args: Args) -> Any:
    """Read a published model's ``config`` or layer ``pattern`` as an architecture's text."""
    from hybridlab.workflows.published import imported

    return imported(args)


def _families(args: Args) -> Any:
    from hybridlab.workflows.published import families

    return families()


def _python_file(args: Args) -> Any:
    """Write the text's architecture as one Python file that runs without HybridLab."""
    from hybridlab.architecture.exporters.pytorch import source_of

    chosen = _task(args)
    completed = _completed(loads(str(args["text"])), chosen)
    return source_of(completed, chosen.input_type() if chosen else None)


def _component_page(args: Args) -> Any:
    """Return a component's page, in parts, with its data flow."""
    from hybridlab.workflows.component_page import component_page

    return component_page(str(args["name"]))


def _data_card(args: Args) -> Any:
    """Return a task's data card, with examples as text."""
    from hybridlab.tasks.data_card import data_card

    return data_card(task(str(args["task"]), **dict(args.get("task_params") or {}))).as_dict()


def _trade_off(args: Args) -> Any:
    """Return the curve of peak and time of a training's step; ``after`` makes the same question anew."""
    from hybridlab.workflows.plan import trade_off_of

    return trade_off_of(_planner(*_step_asked(args)), dict(args["settings"])).as_dict()


def _plan_timeline(args: Args) -> Any:
    """Return what is in memory over the step that a plan makes."""
    from hybridlab.planning.record import Plan
    from hybridlab.planning.timeline import timeline

    return timeline(_planner(*_step_asked(args)), Plan.read(args["plan"]))


def _fit(args: Args) -> Any:
    """Return the largest batch or length whose step fits a memory, and what going beyond costs."""
    from hybridlab.workflows.plan import fit_training, memory_of

    settings, limit_bytes = dict(args["settings"]), memory_of(str(args["memory"]))
    found = fit_training(
        loads(str(args["text"])), settings, limit_bytes, axis=args["axis"], measure=False
    )
    return found.as_dict()


def _caches(args: Args) -> Any:
    """Return what components keep between two positions, predicted and measured."""
    from hybridlab.workflows.caches import caches_of

    settings = dict(args["settings"])
    return caches_of(
        loads(str(args["text"])),
        str(settings["task"]),
        dict(settings.get("task_params") or {}),
        positions=list(args["positions"]),
        batch=int(args["batch"]),
        growth=args["growth"],
        requests=8,
    ).as_dict()


def _buckets(args: Args) -> Any:
    """Return what sorting samples by length saves, predicted and measured."""
    from hybridlab.workflows.buckets import compare_buckets

    return compare_buckets(
        loads(str(args["text"])), dict(args["settings"]), counts=list(args["counts"]), limit_s=20.0
    ).as_dict()


def _not_sorted(args: Args) -> Any:
    """Return why a training cannot sort its samples by length, as a sentence; nothing where it can."""
    from hybridlab.workflows.buckets import not_sorted

    return not_sorted(dict(args["settings"]))


def _step_asked(args: Args) -> tuple[str, str, str, str]:
    settings = json.dumps(args["settings"], sort_keys=True)
    return str(args["text"]), settings, str(args.get("after", "")), str(args.get("offload", ""))


@functools.lru_cache(maxsize=4)
def _planner(text: str, settings: str, after: str, offload: str) -> Any:
    """Trace and solve a step by what is known of this machine; the last few are kept."""
    from hybridlab.workflows.plan import planner_of

    given: Any = offload or None
    return planner_of(loads(text), json.loads(settings), measure=False, offload=given)


def _survey_search(args: Args) -> Any:
    """Read a search's text; return its space, how much of it can be built, and what a trial takes."""
    from hybridlab.workflows.search_survey import survey

    return survey(args)


def _true_front(args: Args) -> Any:
    """Return the true front of a closed form's search."""
    from hybridlab.workflows.search_survey import truth

    return truth(args)


def _task(args: Args) -> Task | None:
    return (
        task(str(args["task"]), **dict(args.get("task_params") or {})) if args.get("task") else None
    )


def _completed(architecture: Architecture, chosen: Task | None) -> Architecture:
    if chosen is None:
        return architecture
    known = palette()
    return complete(
        architecture,
        chosen.input_node(),
        chosen.head_node(),
        lambda name: str(known[name].kind) if name in known else None,
    )


def _shift(architecture: Architecture, completed: Architecture) -> int:
    """Return by how many places the task's input moved the architecture's own nodes."""
    return int(completed.nodes[0].id != architecture.nodes[0].id)


def _shifted(problem: Problem, shift: int, architecture: Architecture) -> Problem:
    """Address a problem as the text does, which knows nothing of what the task supplies."""
    head, bracket, rest = problem.path.partition("nodes[")
    if not bracket or head:
        return problem
    number, _, tail = rest.partition("]")
    index = int(number) - shift
    inside = 0 <= index < len(architecture.nodes)
    message = _ADDRESS.sub(lambda found: f"nodes[{int(found[1]) - shift}]", problem.message)
    return dataclasses.replace(
        problem, path=f"nodes[{index}]{tail}" if inside else "", message=message
    )


VERBS: dict[str, Callable[[Args], Any]] = {
    "catalogue": _catalogue,
    "tasks": _tasks,
    "devices": _devices,
    "check": _check,
    "predict": _predict,
    "predict_several": _predict_several,
    "prepare": _prepare,
    "update_memory": _update_memory,
    "import": _import,
    "families": _families,
    "python_file": _python_file,
    "component_page": _component_page,
    "data_card": _data_card,
    "trade_off": _trade_off,
    "plan_timeline": _plan_timeline,
    "fit": _fit,
    "caches": _caches,
    "buckets": _buckets,
    "not_sorted": _not_sorted,
    "survey_search": _survey_search,
    "true_front": _true_front,
}


def answer(line: str) -> dict[str, Any]:
    """Return the answer to one line; whatever goes wrong becomes problems, never an exception."""
    request: dict[str, Any] = {}
    try:
        request = json.loads(line)
        if request.get("content") is not None:
            recent.remember(str(request["args"]["text"]), None, request["content"])
        return {"id": request.get("id"), "value": VERBS[request["verb"]](request.get("args", {}))}
    except HybridLabError as error:
        problems = [problem.as_dict() for problem in error.problems]
    except Exception as error:
        traceback.print_exc()
        said = f"this could not be predicted: {type(error).__name__}: {str(error)[:300]}"
        problems = [Problem("", said).as_dict()]
    return {"id": request.get("id"), "problems": problems}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer line after line until the requests end."""
    for line in requests:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()


def main() -> None:
    """Serve stdin and stdout; what libraries print goes to stderr."""
    torch.set_num_threads(1)
    palette()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
            serve(sys.stdin, answers)
    os._exit(0)


if __name__ == "__main__":
    main()
