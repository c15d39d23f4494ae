"""Runs as a table: one row each, with the figures that people sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hybridlab.runs.record import Run, RunState


@dataclass(frozen=True)
class RunRow:
    """What the table says of a run; what is not known is None."""

    id: str
    name: str
    state: RunState
    task: str
    metric: str
    value: float | None
    progress: float
    steps: int
    seconds: float | None
    created: float
    threads: int


def runs_info(runs: Sequence[Run], latest: Mapping[str, Mapping[str, float]]) -> list[RunRow]:
    """Return the rows of runs; ``latest`` has each run's last metrics, used where there is no result yet."""
    return [_row(run, latest.get(run.id, {})) for run in runs]


def runs_table(rows: Sequence[RunRow], written: Callable[[RunState], str] = str) -> pd.DataFrame:
    """Return the rows as a table with units in its headings; ``written`` says how a state reads."""
    return pd.DataFrame(
        {
            "name": [row.name for row in rows],
            "state": [written(row.state) for row in rows],
            "task": [row.task for row in rows],
            "metric": [row.metric.replace("_", " ") for row in rows],
            "value": pd.array([row.value for row in rows], dtype="Float64"),
            "progress (%)": [round(100 * row.progress) for row in rows],
            "steps": [row.steps for row in rows],
            "time (s)": pd.array([row.seconds for row in rows], dtype="Float64"),
            "created": pd.to_datetime([row.created for row in rows], unit="s", utc=True),
            "threads": [row.threads for row in rows],
            "run": [row.id for row in rows],
        }
    )


def _row(run: Run, latest: Mapping[str, float]) -> RunRow:
    training: Mapping[str, Any] = run.spec.get("training") or {}
    result: Mapping[str, Any] = run.result or {}
    metrics: Mapping[str, float] = {**latest, **(result.get("metrics") or {})}
    name = next((n for prefix in ("test_", "val_") for n in metrics if n.startswith(prefix)), "")
    done = run.state is RunState.DONE
    share = 1.0 if done else (run.step / run.steps if run.steps else 0.0)
    seconds = result.get("seconds")
    if seconds is None and run.started and run.ended:
        seconds = run.ended - run.started
    return RunRow(
        run.id,
        run.name,
        run.state,
        str(training.get("task", run.kind)),
        name,
        metrics.get(name),
        min(1.0, share),
        run.step,
        None if seconds is None else round(float(seconds), 1),
        run.created,
        run.threads,
    )
