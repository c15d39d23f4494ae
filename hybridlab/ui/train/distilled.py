"""What a student kept of its teacher and what it saves, beside itself alone."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell
from hybridlab.units import format_bytes, format_count, format_seconds
from hybridlab.workflows.alone import alone_of, distillation_of, start_alone


def distilled(run: Run) -> None:
    """Show quality kept against costs saved, or nothing where there was no teacher."""
    try:
        told = distillation_of(run)
        twin = alone_of(run) if told else None
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if told is None:
        return
    with st.container(border=True):
        st.markdown("**Learned from a teacher**")
        places = st.columns(4)
        kept, saved = told.get("kept"), dict(told["saved"])
        places[0].metric(
            "Quality kept",
            "–" if kept is None else f"{kept:.1%}",
            help="The student's test metric over the teacher's; where less is better, the other way round.",
        )
        for place, (key, name) in zip(
            places[1:],
            (("flops_per_sample", "FLOPs"), ("weight_bytes", "Bytes"), ("step_ms", "Time")),
            strict=True,
        ):
            place.metric(f"{name} saved, predicted", f"{saved[key]:.0%}" if key in saved else "–")
        st.dataframe(table(told), hide_index=True)
        _alone(run, told, twin)


def table(told: dict[str, Any]) -> pd.DataFrame:
    """Return the teacher, the student and the student alone, one row each, as people read them."""
    name = str(told["metric"])
    rows = {"Teacher": told["teacher"], "Student": told["student"]}
    if told.get("alone"):
        rows["Student alone"] = {**told["student"], "metrics": told["alone"]["metrics"]}
    return pd.DataFrame(
        {
            "": list(rows),
            name.replace("_", " "): [_figure(row["metrics"].get(name)) for row in rows.values()],
            "FLOPs a sample": [format_count(row["flops_per_sample"]) for row in rows.values()],
            "Weights": [format_bytes(row["weight_bytes"]) for row in rows.values()],
            "Training step, predicted": [
                format_seconds(row["step_ms"] / 1e3) for row in rows.values()
            ],
        }
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _alone(run: Run, told: dict[str, Any], twin: Run | None) -> None:
    """Say what the teacher brought, or offer the run that shows it."""
    alone = told.get("alone")
    if alone is not None:
        gained = alone.get("gained")
        if gained is not None:
            word = "better" if gained > 0 else "worse" if gained < 0 else "different"
            amount = f"{abs(gained):.4g} {word}" if gained else "no different"
            st.caption(
                f"With the teacher it is {amount} than alone at equal steps. One seed says little; repeat with others."
            )
        if st.button("Open the student alone", icon=":material/person:"):
            shell.go(shell.TRAIN, run=alone["run"])
        return
    if twin is not None and twin.state is not RunState.DONE:
        st.caption("The student alone is being trained.")
        if st.button("Watch it", icon=":material/person:"):
            shell.go(shell.TRAIN, run=twin.id)
        return
    if st.button(
        "Train the student alone",
        icon=":material/person:",
        help="The same training without the teacher: the same steps, batches and seed.",
    ):
        try:
            shell.go(shell.TRAIN, run=start_alone(run).id)
        except HybridLabError as error:
            shell.problems(error.problems)
