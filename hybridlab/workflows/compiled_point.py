"""Measures one step, compiled or as it is, in a process of its own: ``python -m hybridlab.workflows.compiled_point``.

It is asked, and answers, as ``own_process`` says; ``measure`` says what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.architecture.program import program
from hybridlab.errors import Problem, RunError
from hybridlab.planning.budgets.plans import budget_curve, telling
from hybridlab.planning.compiled import (
    check_compared,
    measure_compiled,
    measure_plain,
    missing_compiler,
)
from hybridlab.planning.planner import figures
from hybridlab.planning.recompute import Recomputing
from hybridlab.profiling.session import device_of
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import prepare
from hybridlab.workflows.own_process import answer
from hybridlab.workflows.profile import training_step


def measure(
    asked: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], object] = lambda said: None
) -> dict[str, Any]:
    """Measure what is asked for; ``tell`` hears how many components are done, where each is measured alone.

    Keys: ``architecture`` (YAML text), ``training`` (settings of the step), ``steps`` to time, ``share`` (PyTorch's
    budget; None: as it is, not compiled), ``spans`` (places that are computed again) and ``by_component`` (what is
    compiled: each component alone, or the model), ``shares`` (each place's budget, in place of ``share``), ``backend``
    of the compiler. With ``plans`` no step is measured but each component alone, under the budgets ``within``; what is
    found are so many ``plans``, ready to be asked for: ``spans``, ``shares`` and what is ``predicted``.

    Raises:
        HybridLabError: the settings are wrong, or the step cannot be compiled or measured.
    """
    task, spec = prepare(dict(asked["training"]))
    check_compared(spec)
    completed = fit(loads(str(asked["architecture"])), task)
    model = build(completed, task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    if spans := asked.get("spans"):
        model.running = Recomputing(program(model), [(first, last) for first, last in spans])
    steps, share, plans = int(asked["steps"]), asked["share"], int(asked.get("plans", 0))
    shares = tuple(asked.get("shares") or ())
    try:
        if share is None and not (shares or plans):
            return {"figures": measure_plain(step, steps=steps).model_dump()}
        backend = str(asked.get("backend", "inductor"))
        if backend == "inductor" and (missing := missing_compiler(device_of(model))):
            raise RunError(Problem("compile", missing, fix="install one, or use a plan"))
        if plans:
            return {"plans": _plans(step, asked, backend, tell)}
        found = measure_compiled(
            step,
            1.0 if share is None else float(share),
            steps=steps,
            by_component=bool(asked.get("by_component")),
            shares=shares,
            backend=backend,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = f"of {spec.batch} ran out of memory while it was measured"
        raise RunError(Problem("batch", what, fix="measure a smaller batch")) from None
    return {**asdict(found), "figures": found.figures.model_dump()}


def _plans(
    step: TrainingStep,
    asked: Mapping[str, Any],
    backend: str,
    tell: Callable[[Mapping[str, Any]], object],
) -> list[dict[str, Any]]:
    curve, _ = budget_curve(
        step,
        shares=tuple(map(float, asked["within"])),
        backend=backend,
        on_part=lambda done, parts: tell({"done": done, "parts": parts}),
    )
    return [
        {
            "spans": [list(span) for span in one.spans],
            "shares": list(one.shares),
            "predicted": figures(one).model_dump(),
        }
        for one in telling(curve, int(asked["plans"]))
    ]


def _answered(
    asked: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    return measure(asked, tell)


if __name__ == "__main__":
    answer(_answered)
