"""What came out of a training, beside what is reached without learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.ui import predictions, shell
from hybridlab.ui.train.whole import called, parts_of
from hybridlab.units import format_seconds
from hybridlab.views.score import score_info, score_plot

_REASONS = {
    "steps": "all steps done (budget reached)",
    "target": "target reached",
    "patience": "no better validation for a while",
}


def result(run: Run, task: Mapping[str, Any] | None) -> None:
    """Show the test metrics, the time it took and why it ended."""
    came = dict(run.result or {})
    metrics: dict[str, float] = dict(came.get("metrics") or {})
    scores = {name: value for name, value in metrics.items() if name.startswith("test_")}
    with st.container(border=True):
        figures = {
            **{
                name.replace(
                    "_", " "
                ).capitalize(): f"{value:.4g} {_unit(name, run, task)}".rstrip()
                for name, value in scores.items()
            },
            "Steps": f"{came.get('steps', run.step):,}",
            "Time": format_seconds(float(came.get("seconds", 0.0))),
        }
        left, right = st.columns([1, 1.2], gap="medium", vertical_alignment="center")
        with left:
            places = st.columns(min(2, len(figures)))
            for index, (name, value) in enumerate(figures.items()):
                places[index % len(places)].metric(name, value)
            reason = str(came.get("stop_reason", ""))
            st.caption(f"Ended because: {_REASONS.get(reason, reason) or 'not said'}.")
            with st.container(horizontal=True):
                if st.button("Compare with other runs", icon=":material/compare_arrows:"):
                    shell.go(shell.RUNS, compare=run.id)
        with right:
            main = str(task["metric"]) if task else next(iter(scores), "")
            if task and main in scores:
                info = score_info(
                    main,
                    scores[main],
                    came.get("baselines") or task["baselines"],
                    higher_is_better=bool(task["higher_is_better"]),
                    unit=str(task.get("unit", "")),
                )
                st.plotly_chart(score_plot(info), key=f"score.{run.id}")


def _unit(metric: str, run: Run, task: Mapping[str, Any] | None) -> str:
    """Return the unit of a test metric, of several tasks that of the one whose name ends it; empty where none."""
    parts = parts_of(run)
    for name, part in zip(called(parts), parts, strict=True):
        entry = predictions.task(str(part["task"])) or {}
        if metric == f"test_{entry.get('measure')}_{name}":
            return str(entry.get("unit", ""))
    return (
        str((task or {}).get("unit", "")) if metric in (task or {}).get("test_metrics", ()) else ""
    )
