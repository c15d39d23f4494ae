"""A run's gradient flow from the store, and a new run with a remedy in it."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.errors import Problem, RunError
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import task_of
from hybridlab.training.flow import Flow, flow
from hybridlab.training.flow_finding import FlowFinding
from hybridlab.training.grown import trained_text
from hybridlab.training.remedies import applied
from hybridlab.training.spec import make
from hybridlab.workflows.launch import start_training


def flow_of(run: Run) -> tuple[Flow, Architecture]:
    """Return what a training measured of its components, and its own architecture.

    Raises:
        RunError: it is no training.
        SpecError: its record cannot be read.
        StoreError: the store cannot be read.
    """
    if run.kind != "train":
        raise RunError(
            Problem(
                f"run {run.id}", "has no gradients", "a training", f"a run of kind {run.kind!r}"
            )
        )
    architecture = loads(trained_text(run.spec))
    spec = make(dict(run.spec.get("training") or {}))
    whole = fit(architecture, task_of(spec))
    columns = open_store().metrics(run.id)
    curves: dict[str, tuple[list[int], list[float | None]]] = {}
    for step, name, value in zip(columns.step, columns.name, columns.value, strict=True):
        curve = curves.setdefault(name, ([], []))
        curve[0].append(step)
        curve[1].append(value)
    known = palette()
    kinds = {name: str(info.kind) for name, info in known.items()}
    return flow(whole, kinds.get, curves), architecture


def start_with(run: Run, found: tuple[FlowFinding, ...], choice: str) -> Run:
    """Queue a run like another with a remedy applied, ``NUMBER.NAME`` such as ``1.norm``; it is named for it.

    Raises:
        RunError: there is no such finding or remedy.
        SpecError: the run with the remedy cannot be trained.
    """
    number, _, name = choice.partition(".")
    offered = {
        f"{place}.{remedy.name}": remedy
        for place, finding in enumerate(found, 1)
        for remedy in finding.remedies
    }
    if choice not in offered:
        known = ", ".join(offered) or "none here"
        raise RunError(Problem("--apply", "there is no such remedy", known, repr(choice[:60])))
    remedy = offered[f"{number}.{name}"]
    settings: dict[str, Any] = dict(run.spec.get("training") or {})
    text, changed = applied(remedy, str(run.spec["architecture"]), settings)
    named = f"{run.name} · {remedy.title}"
    return start_training(text, changed, name=named, threads=run.threads)
