"""What fuses: measured by a run of its own, shown as what was kept, what was not and why, before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.home import run_folder
from hybridlab.runs.launcher import submit
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import predictions, shell
from hybridlab.ui.again import page_again
from hybridlab.ui.live.reader import reader
from hybridlab.ui.memory.kind import FUSE, FUSED_FILE
from hybridlab.ui.memory.train import train_fused
from hybridlab.ui.memory.work import Work, without_plan
from hybridlab.ui.profile.figure import file_name, show_table
from hybridlab.ui.profile.opened import figures
from hybridlab.units import format_bytes, format_seconds

_EVERY_S = 0.5
_MOST = 40
_PURPOSES = {"inference": "passes forward", "training": "training steps"}


def fusion_section(work: Work) -> None:
    """Let the user measure what fuses, and show what was found last for this very design, batch and purpose."""
    opened = work.run is not None and work.run.kind == FUSE
    with st.expander(
        "What fuses", icon=":material/merge:", key=f"{work.key}.fusion", expanded=opened
    ):
        st.caption(
            "Linear maps that read the same tensor can run as one product; for passes forward, norms' scales can go "
            "into the maps behind them. Each is held against the network as it is, in turn, and kept only where it is "
            "measured faster. Every map keeps its own weights under their names: what is saved or trained is the same."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            purpose = st.segmented_control(
                "What is to be faster",
                list(_PURPOSES),
                default=str(work.run.spec["for"]) if opened and work.run else "inference",
                required=True,
                format_func=lambda name: _PURPOSES[name],
                key=f"{work.key}.fusion.for",
            )
            start = st.button(
                "Measure what fuses", icon=":material/timer:", key=f"{work.key}.fusion.start"
            )
        with shell.told():
            if start:
                _submit(work, str(purpose))
            run = _newest(work, str(purpose))
            if run is not None:
                _shown(work, run)


def _submit(work: Work, purpose: str) -> None:
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(work.text, work.settings)
    if answer.problems:
        shell.problems(answer.problems)
        return
    made = answer.value
    spec = {
        "architecture": work.text,
        "training": made["training"],
        "preset": work.preset,
        "asked": dict(work.settings),
        "for": purpose,
    }
    title = f"{made['name']}, fused for {purpose}"
    submit(FUSE, title, spec, threads=1, device=made["training"]["device"])


def _newest(work: Work, purpose: str) -> Run | None:
    """Return the newest run that measured this, or is about to; None where there is none."""

    def same(run: Run) -> bool:
        spec = run.spec
        mine = spec.get("architecture") == work.text and spec.get("for") == purpose
        asked = (spec.get("asked"), without_plan(spec.get("training") or {}))
        return mine and dict(work.settings) in asked

    runs: list[Run] = open_store().list(kind=FUSE, limit=_MOST)
    return next((run for run in runs if same(run)), None)


def _shown(work: Work, run: Run) -> None:
    if run.state.active:
        st.fragment(_progress, run_every=_EVERY_S)(run.id, run.state)
    elif run.state is not RunState.DONE:
        said = run.error.partition("\n")[0] if run.error else f"It was {run.state.lower()}."
        st.error(shell.escaped(said), icon=":material/error:")
    else:
        _found(work, run)


def _progress(run_id: str, drawn: RunState) -> None:
    """Say what the worker is at; the page is drawn again when that has changed."""
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            page_again()
        if run.state is RunState.QUEUED:
            st.progress(0.0, text="Queued; it starts as soon as a core is free …")
            return
        doing = (
            "Watching who reads which tensor",
            "Timing each in turn with the network as it is",
            "Timing what was faster, all together",
            "Counting operators and bytes",
        )
        share = run.step / run.steps if run.steps else 0.0
        st.progress(share, text=f"{doing[min(run.step, len(doing) - 1)]} …")


def _found(work: Work, run: Run) -> None:
    try:
        found = figures(run_folder(run.id) / FUSED_FILE)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    _headline(found)
    show_table(
        work.opened,
        f"fusion {run.id}",
        fusion_table(found),
        columns={
            "time": st.column_config.NumberColumn("time / as it is", format="%.3f"),
            "low": st.column_config.NumberColumn("from", format="%.3f"),
            "high": st.column_config.NumberColumn("to", format="%.3f"),
            "difference": st.column_config.NumberColumn("difference", format="%.1e"),
        },
        title="What can be fused, and what came of it, measured",
    )
    refused = found["refused"]
    if refused:
        some = "; ".join(f"{one['path']} {one['why']}" for one in refused[:6])
        more = f"; and {len(refused) - 6} more" if len(refused) > 6 else ""
        st.caption(shell.escaped(f"Not fused: {some}{more}."))
    if not found["applied"]:
        return
    with st.container(horizontal=True):
        if found["fusion"]["training"] and st.button(
            "Train fused",
            icon=":material/model_training:",
            key=f"{work.key}.fusion.train",
            help="Puts the fusion into the training's settings. What is learnt is the same but for rounding.",
        ):
            train_fused(work, found["fusion"])
        st.download_button(
            "Fusion (JSON)",
            json.dumps(found["fusion"], indent=2) + "\n",
            file_name(work.opened, "fusion", "json"),
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key=f"{work.key}.fusion.download",
            help="As `hybridlab fuse --output` writes it.",
        )


def _headline(found: Mapping[str, Any]) -> None:
    """Show operators, bytes and time before and after, and whether anything is applied."""
    plain, fused, ratio = found["plain"], found["fused"], found["ratio"]
    columns = st.columns(4)
    for column, name, before, after in (
        (columns[0], "Operators", f"{plain['operators']:,}", f"{fused['operators']:,}"),
        *(
            (column, name, format_bytes(plain[key]), format_bytes(fused[key]))
            for column, name, key in (
                (columns[1], "Read and written", "moved_bytes"),
                (columns[2], "Peak", "peak_bytes"),
            )
        ),
        (
            columns[3],
            "Time, measured",
            format_seconds(found["plain_ms"]["value"] / 1e3),
            format_seconds(found["fused_ms"]["value"] / 1e3),
        ),
    ):
        column.metric(
            name,
            after if found["applied"] else before,
            f"{before} as it is" if found["applied"] else "as it is",
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    if found["applied"]:
        st.success(
            f"Fused, it takes {100 * (1 - ratio['value']):.1f} % less time (between "
            f"{100 * (1 - ratio['high']):.1f} and {100 * (1 - ratio['low']):.1f} %, in turns that had no part in "
            f"choosing); outputs differ by {found['error']:.0e} of the largest at most.",
            icon=":material/check:",
        )
    else:
        st.info(
            shell.escaped(f"Nothing is fused: {found['why']}."), icon=":material/do_not_disturb_on:"
        )
    if found["busy"] or found.get("beside"):
        st.warning(
            f"Others used {found['others_cores']:.1f} cores meanwhile. Milliseconds are therefore no timings; measure "
            "again when the machine is free.",
            icon=":material/speed:",
        )


def fusion_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each thing that can be fused: in how many places, its time over the plain one's, the verdict."""
    rows = found["judged"]
    ratios = [one["ratio"] or {} for one in rows]
    return pd.DataFrame(
        {
            "what": [one["name"] for one in rows],
            "places": [one["places"] for one in rows],
            "time": pd.Series([ratio.get("value") for ratio in ratios], dtype=float),
            "low": pd.Series([ratio.get("low") for ratio in ratios], dtype=float),
            "high": pd.Series([ratio.get("high") for ratio in ratios], dtype=float),
            "difference": pd.Series([one["error"] for one in rows], dtype=float),
            "verdict": ["kept" if one["kept"] else one["why"] for one in rows],
        }
    )
