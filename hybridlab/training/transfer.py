"""What tasks gain or lose by being learnt together, against runs of the same network on each of them alone.

Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run, RunState

_ALIKE = ("steps", "batch", "learning_rate")
"""Settings in which a run on one task must agree to be compared."""
_WAYS = ("teacher", "stages")
"""Another way of training is no run on the task alone."""


@dataclass(frozen=True)
class Row:
    """One task's main test metric, learnt with others and alone; ``alone`` has a value a run, by its id."""

    task: str
    metric: str
    together: float
    alone: Mapping[str, float]
    higher_is_better: bool

    @property
    def mean_alone(self) -> float | None:
        """The mean over runs on this task alone, None where there is none."""
        return math.fsum(self.alone.values()) / len(self.alone) if self.alone else None

    @property
    def gain(self) -> float | None:
        """How much better it is learnt with others, in the metric's unit; below 0 it is worse."""
        if (mean := self.mean_alone) is None:
            return None
        return self.together - mean if self.higher_is_better else mean - self.together

    @property
    def beyond_chance(self) -> bool | None:
        """Whether the value lies outside those of the runs alone; None with fewer than two of them."""
        if len(self.alone) < 2:
            return None
        return not min(self.alone.values()) <= self.together <= max(self.alone.values())

    def sentence(self) -> str:
        """Say what learning together did for this task."""
        mean, gain, beyond = self.mean_alone, self.gain, self.beyond_chance
        word = self.metric.removeprefix("test_").replace("_", " ")
        if mean is None or gain is None:
            return f"{self.task}: {word} {self.together:.4g} with others; there is no run on it alone to compare with."
        runs = f"{len(self.alone)} run{'s' if len(self.alone) > 1 else ''}"
        both = f"{word} {self.together:.4g} with others, {mean:.4g} alone ({runs})"
        if gain == 0 or beyond is False:
            return f"{self.task}: no difference, {both}."
        kind = "positive transfer" if gain > 0 else "negative transfer"
        doubt = ", though one run alone may be chance" if beyond is None else ""
        return f"{self.task}: {kind}, {both}{doubt}."


def transfer(run: Run, others: Iterable[Run]) -> tuple[Row, ...]:
    """Return a row for each task of a finished run on several, from other finished runs.

    Compared are those of the same architecture (by its fingerprint), task and parameters, with as many steps, samples
    and the same rate, teacher and stages; seeds may differ. A run on one task, or an unfinished one, gives no rows.
    """
    training, metrics = _settings(run), _metrics(run)
    tasks = _tasks(training)
    fingerprint = _fingerprint(run)
    if not tasks or not metrics or fingerprint is None:
        return ()
    singles = [other for other in others if _single(other, training)]
    fitting = [other for other in singles if _fingerprint(other) == fingerprint]
    rows = []
    for part in tasks:
        name = part.get("name") or part.get("task")
        mine = [o for o in fitting if _same_task(part, _settings(o))]
        own, metric = _own(metrics, str(name))
        if own is None:
            continue
        alone = {o.id: value for o in mine if (value := _metrics(o).get(metric)) is not None}
        rows.append(Row(str(name), metric, own, alone, "accuracy" in metric))
    return tuple(rows)


def _own(metrics: Mapping[str, float], name: str) -> tuple[float | None, str]:
    """Return a task's main test metric of a run on several, and that metric's name in a run on the task alone."""
    for measure in ("accuracy", "bits_per_byte", "mean_abs_error"):
        if (value := metrics.get(f"test_{measure}_{name}")) is not None:
            return value, f"test_{measure}"
    return None, ""


def _tasks(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    several = training.get("tasks")
    return list(several.get("of") or ()) if isinstance(several, Mapping) else []


def _single(other: Run, training: Mapping[str, Any]) -> bool:
    theirs = _settings(other)
    return (
        other.kind == "train"
        and other.state is RunState.DONE
        and not _tasks(theirs)
        and all(theirs.get(key) == training.get(key) for key in _ALIKE)
        and all((theirs.get(key) or None) == (training.get(key) or None) for key in _WAYS)
    )


def _same_task(part: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return part.get("task") == theirs.get("task") and dict(part.get("task_params") or {}) == dict(
        theirs.get("task_params") or {}
    )


def _settings(run: Run) -> Mapping[str, Any]:
    training = run.spec.get("training")
    return training if isinstance(training, Mapping) else {}


def _metrics(run: Run) -> Mapping[str, float]:
    metrics = dict(run.result or {}).get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _fingerprint(run: Run) -> str | None:
    try:
        return loads(str(run.spec.get("architecture", ""))).fingerprint
    except HybridLabError:
        return None
