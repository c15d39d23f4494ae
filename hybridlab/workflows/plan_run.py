"""Measures a plan inside a worker: the step with it and the plain step, in turn; their figures go into the folder."""

from __future__ import annotations

import json
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import Problem, RunError
from hybridlab.planning.measure import measure_plan
from hybridlab.planning.planner import Planner, figures
from hybridlab.planning.record import Figures, Plan
from hybridlab.planning.solve import point_of
from hybridlab.planning.training_step import plan_step
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.units import format_bytes
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.profile import training_step
from hybridlab.workflows.profile_run import others
from hybridlab.writing import write_whole

FILE = "plan.json"
"""What a run of kind ``plan`` leaves in its folder: ``plan`` (with ``measured``), ``plain_measured`` and ``beside``.

The last is how many other runs were under way meanwhile, at most."""


def run(context: RunContext) -> dict[str, Any]:
    """Apply the plan of the run's record and measure it; return its figures, predicted and measured.

    The record holds ``architecture`` (YAML text), ``training`` (settings of the step) and ``plan``. Components that
    were never measured alone on this machine are, and the plan's times are predicted anew by what is known then, before
    the step is measured; what the record's own plan promised stays with the record.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record, the plan or the device is not right, or memory ran out; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        asked = dict(record["plan"])
    except (KeyError, TypeError, ValueError):
        raise RunError("the run's record has no architecture, settings and plan") from None
    settings.pop("plan", None)
    plan = Plan.read(asked)
    task, spec = prepare(settings)
    completed = fit(loads(text), task)

    beside = 0

    def begun(done: int, parts: int) -> None:
        nonlocal beside
        reason = context.stop_requested()
        if reason is not None:
            raise Stopped(reason)
        beside = max(beside, others(context))
        context.progress(done, parts)

    def measured(done: int, parts: int) -> None:
        begun(done + 1, parts + 1)

    write_whole(context.folder / "architecture.yaml", text)
    begun(0, 9)
    try:
        offload = plan.offload_as if plan.offload else None
        promised = _predicted(plan_step(completed, task, spec, offload=offload), plan)
        model = build(completed, task.input_type(), seed=spec.seed)
        as_trained(model, spec)
        step = training_step(model, task, spec)
        with_plan, plain = measure_plan(step, plan, on_part=measured)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            Problem(
                "batch",
                f"of {spec.batch} ran out of memory while it was measured; the plan promises "
                f"{format_bytes(plan.predicted.peak_bytes)} at the peak, the plain step beside it "
                f"{format_bytes(plan.plain.peak_bytes)}",
                fix="plan a smaller batch",
            )
        ) from None
    plan = plan.model_copy(update={"measured": with_plan, **promised})
    found = {"plan": plan.as_dict(), "plain_measured": plain.model_dump(), "beside": beside}
    write_whole(context.folder / FILE, json.dumps(found, allow_nan=False) + "\n")
    context.progress(9, 9)
    return {
        "predicted": plan.predicted.model_dump(),
        "measured": with_plan.model_dump(),
        "plain_predicted": plan.plain.model_dump(),
        "plain_measured": plain.model_dump(),
        "recompute": [list(part) for part in plan.recompute],
        "offload": list(plan.offload),
    }


def _predicted(made: Planner, plan: Plan) -> dict[str, Figures]:
    """Predict a plan and the plain step by what is known of this machine now.

    Raises:
        RunError: the plan was made for another architecture, or another batch or length.
    """
    spans = plan.spans(made.architecture.fingerprint, made.names)
    if (plan.batch, plan.length) != (made.batch, made.length):
        raise RunError(
            Problem(
                "plan",
                "was made for a step of another size",
                f"batch {plan.batch}, length {plan.length}",
                f"batch {made.batch}, length {made.length}",
                "make a plan for this one",
            )
        )
    point = point_of(made.choices, spans, plan.away(made.names))
    return {"predicted": figures(point), "plain": made.plain}
