"""Trains an architecture on a task inside a worker: everything it learns goes to the store and the run's folder."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import RunError, StoreError
from hybridlab.hardware.devices import choose
from hybridlab.hardware.meters.here import instruments
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.tasks.registry import fit, task
from hybridlab.training.curriculum import STAGE
from hybridlab.training.defaults import task_of
from hybridlab.training.grown import grown_text
from hybridlab.training.loop import train
from hybridlab.training.spec import make
from hybridlab.training.stage_spec import stage_names
from hybridlab.training.step_profile import StepProfiler
from hybridlab.workflows.as_trained import allocator_in_effect, as_trained
from hybridlab.workflows.distill import outcome
from hybridlab.workflows.metering import RunEnergy, metered
from hybridlab.writing import write_whole

_SMALL = "name: warm\nwidth: 8\nnodes:\n  - {use: lstm}\n  - {use: attention, heads: 2}\n"


def warm() -> None:
    """Fit and build a small model: shape inference imports half of torch, better before a run than in it."""
    what = task("parity")
    build(fit(loads(_SMALL), what), what.input_type(), seed=0)


def run(
    context: RunContext,
    enough: Callable[[int, dict[str, float]], bool] = lambda step, metrics: False,
    after_step: Callable[[int], object] = lambda step: None,
) -> dict[str, Any]:
    """Train what the run's record describes, from its newest checkpoint where there is one; return the result.

    The record holds ``architecture`` (YAML text) and ``training`` (settings); both are also written into the folder.
    ``enough`` is given what is logged, as (step, values), and may say that the training has gone on for long enough:
    then it stops after that step, is ``cancelled`` in the result and leaves a checkpoint. ``after_step`` is given the
    number of each step that was made, before the next begins.

    Raises:
        Stopped: the run was cancelled or interrupted; its checkpoint is written.
        HybridLabError: the record, the data or the device is not right, or training went wrong; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
    except (KeyError, TypeError, ValueError):
        raise RunError("the run's record has no architecture and training settings") from None
    spec = make(settings)
    what = task_of(spec)
    architecture = fit(loads(text), what)
    model = build(architecture, what.input_type(), seed=spec.seed)
    pools = as_trained(model, spec, say=functools.partial(print, flush=True))
    allocator_in_effect(spec)
    write_whole(context.folder / "architecture.yaml", grown_text(text, spec.stages))
    write_whole(
        context.folder / "training.json", json.dumps(spec.model_dump(mode="json"), indent=2) + "\n"
    )
    if not context.resumed:
        context.progress(0, spec.steps)
    print(
        f"{architecture.name}: {_count(model):,} parameters, task {what.name}, {spec.steps:,} steps",
        flush=True,
    )

    found = instruments(choose(spec.device))
    energy = RunEnergy(context, spec, found, what.length)
    profiler = StepProfiler(context.folder, model, spec.profile_every)

    stages = stage_names(spec.model_dump())
    ends = False

    def restored(step: int) -> None:
        energy.goes_on_from(step)
        context.truncate_metrics(step)
        context.progress(step, spec.steps)
        if step:
            print(f"going on from the checkpoint of step {step:,}", flush=True)

    def logged(step: int, metrics: dict[str, float]) -> None:
        if STAGE in metrics:
            name = stages[int(metrics[STAGE])]
            print(
                f"stage {name} begins after step {step:,}: {_count(model):,} parameters", flush=True
            )
        context.log_metrics(step, metrics)
        nonlocal ends
        ends = ends or enough(step, metrics)

    def done(step: int) -> None:
        context.progress(step, spec.steps)
        profiler.after_step(step)
        after_step(step)

    def went_back(step: int, why: str) -> None:
        energy.goes_back(context.step - step)
        context.truncate_metrics(step)
        context.progress(step, spec.steps)
        print(f"going back to the checkpoint of step {step:,} with lower rates: {why}", flush=True)

    def flush() -> None:
        energy.keep(context.step)
        with contextlib.suppress(StoreError):  # it is tried again; a checkpoint is worth more now
            context.flush()

    with metered(context, spec, found):
        try:
            result = train(
                model,
                what,
                spec,
                folder=context.folder,
                on_metrics=logged,
                should_stop=lambda: context.stop_requested() or ("cancel" if ends else None),
                on_step=done,
                on_restored=restored,
                on_rollback=went_back,
                before_checkpoint=flush,
                resume=context.resumed,
            )
        finally:
            profiler.close()
    asked = context.stop_requested()
    if result.stop_reason in ("cancel", "interrupt") and (asked or not ends):
        raise Stopped(asked or result.stop_reason)
    held = pools.as_dict() if pools is not None else []
    if pools is not None:
        print(*pools.sentences(), sep="\n", flush=True)
    return {
        **result.as_dict(),
        "baselines": what.baselines(),
        "params": _count(model),
        "energy": energy.result(result.steps),
        **({"pools": held} if held else {}),
        **({"distillation": outcome(model, what, spec, result.metrics)} if spec.teacher else {}),
    }


def _count(model: GraphModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
