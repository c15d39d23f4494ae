"""What fuses: linear maps that read one tensor, and norms that go into the maps behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.ui import shell
from hybridlab.ui.memory.choice import Choice, choice_section
from hybridlab.ui.memory.kind import FUSE, FUSED_FILE
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import show_table

FUSION = Choice(
    kind=FUSE,
    file=FUSED_FILE,
    name="fusion",
    title="What fuses",
    icon=":material/merge:",
    caption="Linear maps that read the same tensor can run as one product; turns of queries and keys can share a "
    "table; for passes forward, norms' scales can go into the maps behind them. Each alone and sets of them are held "
    "against the network as it is, in turn; the fastest set is kept where it is faster once more. Every map keeps its "
    "own weights under their names: what is saved or trained is the same.",
    button="Measure what fuses",
    done="fused",
    after="fused",
    plain="as it is",
    nothing="Nothing is fused",
    doing=(
        "Watching who reads which tensor",
        "Timing each in turn with the network as it is",
        "Timing the fastest set once more",
        "Counting operators and bytes",
    ),
    verb="fuse",
)


def fusion_section(work: Work) -> None:
    """Let the user measure what fuses, and show what was found last for this very design, batch and purpose."""
    choice_section(FUSION, work, _details)


def _details(work: Work, run: Run, found: Mapping[str, Any]) -> None:
    """Show what was tried and what came of it, and what cannot be fused."""
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
