"""The network that a run trains, with the input and the heads that its task or its several tasks supply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.architecture.complete import complete
from hybridlab.architecture.heads import Asked, claimed, with_heads
from hybridlab.architecture.spec import Architecture
from hybridlab.runs.record import Run
from hybridlab.ui import predictions


def parts_of(run: Run) -> list[dict[str, Any]]:
    """Return the several tasks of a run as its settings have them; none where it has one."""
    training = run.spec.get("training")
    settings = (training.get("tasks") if isinstance(training, Mapping) else None) or {}
    return [dict(part) for part in settings.get("of", ())]


def called(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what tasks are called in metrics."""
    return [str(part.get("name") or part["task"]) for part in parts]


def kinds() -> dict[str, str]:
    """Return each component's family by its name."""
    return {entry["name"]: str(entry["kind"]) for entry in predictions.components()}


def asked(parts: Sequence[Mapping[str, Any]]) -> list[Asked]:
    """Return what each task asks; a task that is not known here is left out."""
    return [
        Asked(name, entry["head_node"], part.get("head"))
        for name, part in zip(called(parts), parts, strict=True)
        if (entry := predictions.task(str(part["task"]))) is not None
    ]


def with_all_heads(
    architecture: Architecture, parts: Sequence[Mapping[str, Any]]
) -> Architecture | None:
    """Return an architecture with a head for each task; None where a task is not known, or has no head of its own."""
    first, wanted = predictions.task(str(parts[0]["task"])), asked(parts)
    if first is None or len(wanted) < len(parts) or claimed(architecture, wanted, kinds().get)[1]:
        return None
    return with_heads(architecture, first["input_node"], wanted, kinds().get)


def whole(run: Run, architecture: Architecture, task: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a run on a task, or on several of which that is the first, as it trains."""
    parts = parts_of(run)
    found = with_all_heads(architecture, parts) if parts else None
    if found is not None:
        return found
    return complete(architecture, task["input_node"], task["head_node"], kinds().get)
