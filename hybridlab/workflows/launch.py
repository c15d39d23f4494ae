"""From an architecture's text and the settings a person names to a queued run; everything wrong is told before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import SpecError
from hybridlab.hardware.devices import choose
from hybridlab.runs.launcher import submit
from hybridlab.runs.record import Run
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.training.buckets import sorted_task
from hybridlab.training.defaults import prepare
from hybridlab.training.frozen_cache import refusals
from hybridlab.training.groups import Member, assigned
from hybridlab.training.spec import MEASURED, TrainSpec
from hybridlab.training.stage_checks import check_stages
from hybridlab.training.start import start, starts_otherwise
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.distill import taught


def prepared(text: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check that an architecture can be trained with settings; return a name for the run and the complete settings.

    Keys: name, training. What ``settings`` leave out comes from the task.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown, or does not fit the architecture.
        DeviceError: the device asked for is not here, or has no memory pools, which the settings ask for.
        RunError: what the settings say was measured, such as a plan, is another architecture's or kind of device's.
    """
    architecture = loads(text)
    task, spec = prepare(settings)
    completed = fit(architecture, task)
    choose(spec.device)
    if spec.buckets:
        sorted_task(None, task, spec)
    if spec.groups or spec.stages or starts_otherwise(spec):
        model = build(completed, task.input_type(), device="meta")
        found = assigned(model, spec.groups)
        start(model, spec)
        check_stages(model, task, spec)
        if spec.cache_frozen:
            _check_frozen(model, found, task, spec)
    applied = (spec.allocator, *(getattr(spec, name) for name in MEASURED))
    if spec.pools or any(one is not None for one in applied):
        as_trained(build(completed, task.input_type(), device="meta"), spec)
    spec = taught(spec, completed, task)
    return {
        "name": f"{architecture.name} on {task.name}",
        "training": spec.model_dump(mode="json"),
    }


def _check_frozen(
    model: GraphModel, found: Mapping[str, Sequence[Member]], task: Task, spec: TrainSpec
) -> None:
    """Freeze a model as its training will, and see that outputs at its beginning can be kept.

    Raises:
        SpecError: they cannot; it says why.
    """
    for group in spec.groups:
        for one in found[group.name] if group.frozen else ():
            one.parameter.requires_grad_(False)
    if problems := refusals(model, task.fixed_inputs(), task.name):
        raise SpecError(problems)


def start_training(
    text: str,
    settings: Mapping[str, Any],
    *,
    name: str = "",
    preset: str | None = None,
    threads: int | None = None,
    owner: str = "",
) -> Run:
    """Queue the training of an architecture; what ``settings`` leave out comes from the task.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown, or does not fit the architecture.
        DeviceError: the device asked for is not here.
        RunError: ``threads`` is not positive.
        StoreError: the run cannot be stored.
    """
    made = prepared(text, settings)
    return submit(
        "train",
        name or made["name"],
        {"architecture": text, "training": made["training"], "preset": preset},
        threads=threads,
        owner=owner,
        device=made["training"]["device"],
    )
