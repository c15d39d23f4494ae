"""What runs compiled by a training's settings: how much, whether it fits the design, and how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.regions.record import Regions
from hybridlab.ui import shell
from hybridlab.ui.train.measured import made_for, remove
from hybridlab.units import format_seconds

_MOST = 8


def regions_panel(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show what runs compiled by the settings, where something does."""
    if not settings.get("regions"):
        return
    with st.container(border=True):
        st.markdown("**Compiled regions**")
        try:
            regions = Regions.read(settings["regions"])
        except HybridLabError as error:
            shell.problems(error.problems)
        else:
            _told(regions)
            made_for(regions.fingerprint, text, task)
        st.button(
            "Train without compiling",
            icon=":material/close:",
            key="train.regions.remove",
            on_click=remove,
            args=(task, "regions"),
        )


def _told(regions: Regions) -> None:
    paths = [path.removeprefix("root.") for path in regions.paths]
    more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    listed = ", ".join(paths[:_MOST]) + more
    run = "runs" if len(paths) == 1 else "run"
    st.markdown(
        shell.escaped(f"{listed} {run} compiled on batches of {regions.batch}.")
        + f" The first step compiles them, which took {format_seconds(regions.compile_s)} where they were "
        "measured, and less where that is kept; the log tells of each. What is learnt is the same but for rounding."
    )
