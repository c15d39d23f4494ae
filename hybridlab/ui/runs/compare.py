"""Two to eight runs on one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.training.stage_spec import stage_names
from hybridlab.ui import state
from hybridlab.ui.runs.one import confirm
from hybridlab.views.curves import (
    MOST,
    Axis,
    Border,
    Curve,
    borders_of,
    curves_info,
    curves_plot,
)
from hybridlab.views.runs_table import runs_info


def compare(runs: Sequence[Run]) -> None:
    """Show one metric of all runs, their results and the settings in which they differ."""
    if len(runs) > MOST:
        st.info(
            f"{len(runs)} runs are selected; a chart shows at most {MOST}.", icon=":material/info:"
        )
        return
    store = open_store()
    latest = store.latest_metrics([run.id for run in runs])
    names = sorted({name for metrics in latest.values() for name in metrics}, key=_order)
    with st.container(border=True):
        if not names:
            st.info("These runs have no points yet.", icon=":material/hourglass_empty:")
            return
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kept = state.keep("compare_metric", names[0])
            metric = st.selectbox(
                "Metric",
                names,
                index=names.index(kept) if kept in names else 0,
                format_func=lambda name: name.replace("_", " "),
                width=280,
            )
            axis: Axis = st.segmented_control(
                "Along", ["step", "seconds"], default="step", required=True, key="compare.axis"
            )
            if st.button("Delete these runs", icon=":material/delete:", type="tertiary"):
                confirm([run for run in runs if not run.state.active])
        state.put("compare_metric", metric)
        borders = [border for run in runs for border in _borders(run)]
        curves = [_curve(run, metric) for run in runs]
        info = curves_info(curves, metric, axis=axis, borders=borders)
        st.plotly_chart(curves_plot(info), key="compare.chart", alt=f"Curves of {metric}")
        st.dataframe(_differences(runs, latest), hide_index=True)
        st.download_button(
            "Curves (CSV)",
            lambda: info.table().to_csv(index=False),
            "compare.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def _order(name: str) -> tuple[int, str]:
    ranks = ("val_", "loss", "test_", "samples")
    return next((i for i, start in enumerate(ranks) if name.startswith(start)), len(ranks)), name


def _curve(run: Run, metric: str) -> Curve:
    columns = open_store().metrics(run.id, names=[metric])
    return Curve(
        run.id, run.name, tuple(columns.step), tuple(columns.seconds), tuple(columns.value)
    )


def _borders(run: Run) -> list[Border]:
    """Return where the stages of a run begin; the store is asked only where it has some."""
    names = stage_names(run.spec.get("training"))
    if not names:
        return []
    columns = open_store().metrics(run.id, names=["stage"])
    points = list(zip(columns.step, columns.seconds, columns.value, strict=True))
    return borders_of(run.id, points, names)


def _differences(runs: Sequence[Run], latest: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the runs' results and the settings that are not the same in all of them."""
    rows: list[dict[str, Any]] = []
    settings = [dict(run.spec.get("training") or {}) for run in runs]
    keys = [key for key in settings[0] if len({repr(item.get(key)) for item in settings}) > 1]
    for run, row, given in zip(runs, runs_info(runs, latest), settings, strict=True):
        best = {row.metric.replace("_", " ") or "result": row.value}
        rows.append(
            {"name": run.name, "state": str(run.state).lower(), **best, "time (s)": row.seconds}
        )
        rows[-1] |= {key.replace("_", " "): str(given.get(key)) for key in keys}
    return pd.DataFrame(rows)
