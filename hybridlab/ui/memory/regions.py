"""Regions: components whose element-wise work PyTorch's compiler makes into few kernels, where that is faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.ui import shell
from hybridlab.ui.memory.choice import Choice, choice_section
from hybridlab.ui.memory.kind import REGIONS, REGIONS_FILE
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.views.regions import regions_info, regions_plot

_AFTER = 3
"""Parts that come after the regions: all in the step, once more, and counting."""
_MOST_TOLD = 6


def _doing(done: int, parts: int) -> str:
    """Say what the worker is at."""
    regions = parts - _AFTER
    if regions < 0:
        return "Looking for element-wise work in a row"
    if done < regions:
        return f"Compiling and timing region {done + 1} of {regions}"
    after = (
        "Timing what was faster in the whole step",
        "Timing the faster set once more",
        "Counting kernels, bytes and the peak",
    )
    return after[min(done - regions, len(after) - 1)]


CHOICE = Choice(
    kind=REGIONS,
    file=REGIONS_FILE,
    name="regions",
    title="Compiled regions",
    icon=":material/memory:",
    caption="PyTorch can compile a component, its norm and its residual into few kernels, which read and write less. "
    "Each kind of component is compiled and held against itself as it is, forward and backward, in turn; what is "
    "faster alone then runs in the whole step, and is kept only where that is faster too. Compiling takes seconds to "
    "minutes each, behind the page, and can be cancelled. What draws random numbers is left as it is "
    "([pytorch#190758](https://github.com/pytorch/pytorch/issues/190758)).",
    button="Measure compiled regions",
    done="compiled",
    after="compiled",
    plain="as it is",
    nothing="Nothing is compiled",
    doing=("Compiling",),
    telling=_doing,
    verb="fuse --regions",
    operators="Kernels",
    moved="Read and written, at least",
)


def regions_section(work: Work) -> None:
    """Let the user measure compiled regions, and show what was found last for this design, batch and purpose."""
    choice_section(CHOICE, work, _details)


def _details(work: Work, run: Run, found: Mapping[str, Any]) -> None:
    """Show what each region did as it is and compiled, what cannot be one graph, and what is not compiled and why."""
    info = regions_info(found)
    if info.regions:
        figure(
            work.opened,
            f"regions {run.id}",
            "Time of each region compiled, over that of it as it is",
            regions_plot(info),
        )
        show_table(
            work.opened,
            f"regions {run.id} table",
            info.table(),
            columns={
                "in_rows": st.column_config.NumberColumn("element-wise, in rows", format="percent"),
                "plain_kernels": st.column_config.NumberColumn("kernels as it is"),
                "compiled_kernels": st.column_config.NumberColumn("kernels compiled"),
                "plain_bytes": st.column_config.NumberColumn("bytes as it is", format="localized"),
                "compiled_bytes": st.column_config.NumberColumn(
                    "bytes compiled, at least", format="localized"
                ),
                "time": st.column_config.NumberColumn("time / as it is", format="%.3f"),
                "low": st.column_config.NumberColumn("from", format="%.3f"),
                "high": st.column_config.NumberColumn("to", format="%.3f"),
                "difference": st.column_config.NumberColumn("difference", format="%.1e"),
                "compile_s": st.column_config.NumberColumn("compiling (s)", format="%.1f"),
            },
            title="What each region does as it is and compiled, measured",
        )
        said = str(found["bytes_are"])
        st.caption(shell.escaped(f"{said[:1].upper()}{said[1:]}."))
    breaks = [
        f"{one['name']} runs in {one['graphs']} graphs: {broken['why']} ({broken['times']} times)"
        for one in found["judged"]
        for broken in one["breaks"]
    ]
    _told("Not one graph", breaks)
    _told("Not compiled", [f"{one['name']}: {one['why']}" for one in found["refused"]])


def _told(title: str, sentences: list[str]) -> None:
    if not sentences:
        return
    some = "; ".join(sentences[:_MOST_TOLD])
    left = len(sentences) - _MOST_TOLD
    more = f"; and {left} more" if left > 0 else ""
    st.caption(shell.escaped(f"{title}: {some}{more}."))
