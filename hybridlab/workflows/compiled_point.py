"""Measures one step, compiled or as it is, in a process of its own: ``python -m hybridlab.workflows.compiled_point``.

It is asked, and answers, as ``own_process`` says; ``measure`` says what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.program import program
from hybridlab.errors import Problem, RunError
from hybridlab.planning.budgets.offers import offers, telling, within
from hybridlab.planning.budgets.plans import budget_curve
from hybridlab.planning.budgets.stretches import Span, as_compiled
from hybridlab.planning.compiled import (
    check_compared,
    measure_compiled,
    measure_plain,
    missing_compiler,
)
from hybridlab.planning.planner import figures
from hybridlab.planning.recompute import Recomputing
from hybridlab.planning.record import Figures
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
    of the compiler; ``stretches`` (places in a row that are compiled together, under the budget of the first). With
    ``plans`` no step is measured but each component alone, under the budgets ``within``; what is
    found are so many ``plans``, ready to be asked for: ``spans``, ``shares`` and what is ``predicted``. ``whole`` has
    what the step takes compiled as a whole by ``share``, ``peak_bytes`` and ``step_ms``, so that plans may be that too
    (``whole`` is then its budget, and ``shares`` are none); for each of ``peaks`` the fastest plan is among them.

    Raises:
        HybridLabError: the settings are wrong, or the step cannot be compiled or measured.
    """
    task, spec = prepare(dict(asked["training"]))
    check_compared(spec)
    completed = fit(loads(str(asked["architecture"])), task)
    model = build(completed, task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    steps, share, plans = int(asked["steps"]), asked["share"], int(asked.get("plans", 0))
    lists = (asked.get(name) or () for name in ("spans", "shares", "stretches"))
    shares = _run_by(model, *lists)
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
        stretches=True,
    )
    fastest = curve.point(len(curve) - 1)
    model = step.model
    assert isinstance(model, GraphModel)
    shares = _run_by(model, fastest.spans, fastest.shares, fastest.stretches)
    found = measure_compiled(step, 1.0, steps=int(asked["steps"]), shares=shares, backend=backend)
    whole = {
        float(one["share"]): Figures(peak_bytes=one["peak_bytes"], step_ms=one["step_ms"])
        for one in asked.get("whole") or ()
    }
    scale = found.figures.step_ms / figures(fastest).step_ms
    some = offers(curve, scale=scale, whole=whole)
    fitting = (within(some, int(peak)) for peak in asked.get("peaks") or ())
    chosen = {*telling(some, int(asked["plans"])), *(one for one in fitting if one is not None)}
    return [one.as_asked() for one in some if one in chosen]


def _run_by(
    model: GraphModel,
    spans: Sequence[Sequence[int]],
    shares: Sequence[float | None],
    stretches: Sequence[Sequence[int]],
) -> tuple[float | None, ...]:
    """Let a model run by a plan, and return the budgets of what it is then made of."""
    again, rows = ([_span(one) for one in some] for some in (spans, stretches))
    written, again, left = as_compiled(program(model), again, shares, rows)
    model.running = Recomputing(written, again) if again or rows else None
    return left


def _span(ends: Sequence[int]) -> Span:
    first, last = ends
    return first, last


def _answered(
    asked: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    return measure(asked, tell)


if __name__ == "__main__":
    answer(_answered)
