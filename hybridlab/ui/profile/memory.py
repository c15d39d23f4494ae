"""The memory view: what is there over a step, who touches it when, how far apart, and what is handed to whom."""

from __future__ import annotations

import streamlit as st

from hybridlab.hardware.meters.allocator_words import allocator_words
from hybridlab.ui import shell
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.profile_access import (
    ACCESSES,
    Access,
    matrix_info,
    matrix_plot,
    raster_info,
    raster_plot,
    reuse_info,
    reuse_plot,
)
from hybridlab.views.profile_memory import (
    By,
    kept_info,
    live_info,
    live_plot,
    peak_info,
    peak_plot,
)
from hybridlab.views.style import Source

_PICTURES = {
    "live": "Over time",
    "raster": "Accesses",
    "reuse": "Reuse",
    "hand_overs": "Between components",
    "kept": "Kept for backward",
}


_RASTERS = {"component": "raster", "storage": "storage_raster"}
"""Tables of the report by what has a row; profiles made before storages were shown have the first alone."""
_MOST_STORAGES = (40, 80, 160)


def memory(opened: Opened) -> None:
    """Show one picture of memory at a time."""
    if opened.table("live").empty:
        st.info("This profile has no tables of memory.", icon=":material/info:")
        return
    st.fragment(_picture)(opened)


def _picture(opened: Opened) -> None:
    chosen = st.segmented_control(
        "Picture of memory",
        list(_PICTURES),
        default="live",
        required=True,
        format_func=lambda name: _PICTURES[name],
        label_visibility="collapsed",
        key=f"{opened.key}.memory.picture",
    )
    draw = {"live": _live, "raster": _raster, "reuse": _reuse, "hand_overs": _matrix, "kept": _kept}
    draw[str(chosen)](opened)


def _live(opened: Opened) -> None:
    table = opened.table("live")
    sources: list[Source] = ["measured", "predicted"]
    kinds: list[By] = ["category", "component"]
    with st.container(horizontal=True):
        by = st.segmented_control(
            "Apart by", kinds, default="category", required=True, key=f"{opened.key}.live.by"
        )
        source = st.segmented_control(
            "Source",
            [name for name in sources if name in set(table["source"])],
            default="measured",
            required=True,
            key=f"{opened.key}.live.source",
        )
    info = live_info(table, opened.table("memory"), by, source)
    figure(opened, "live", "Bytes that are there over a step", live_plot(info), table)
    st.caption(
        "The peak is where the red line stands; the bars below say what is there at that moment. *Measured* follows "
        "every storage of a real step, *predicted* the same on tensors without memory; the dotted line is what the "
        "profiler's own memory events add up to."
    )
    if said := allocator_words(opened.figures.get("allocator") or {}):
        st.caption(f"Fragmentation of the device's memory: {shell.escaped(said)}.")
    peak = opened.table("at_peak")
    figure(opened, "at_peak", "What is there at the peak", peak_plot(peak_info(peak, source)), peak)


def _raster(opened: Opened) -> None:
    tables = {title: name for title, name in _RASTERS.items() if not opened.table(name).empty} or {
        "component": "raster"
    }
    kinds: list[Access] = list(ACCESSES)
    units = {"operator": "operators", "us": "time"}
    most = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "A row for each",
            list(tables),
            default="component",
            required=True,
            key=f"{opened.key}.raster.by",
        )
        table = opened.table(tables[str(by)])
        access = st.segmented_control(
            "Accesses",
            kinds,
            default="all",
            required=True,
            format_func=lambda name: ACCESSES[name],
            key=f"{opened.key}.raster.access",
        )
        unit = st.segmented_control(
            "Along",
            [name for name in units if name in set(table["unit"])],
            default="operator",
            required=True,
            format_func=lambda name: units[name],
            key=f"{opened.key}.raster.unit",
        )
        if by == "storage":
            most = st.segmented_control(
                "With the most bytes",
                _MOST_STORAGES,
                default=_MOST_STORAGES[0],
                required=True,
                key=f"{opened.key}.raster.most",
            )
    info = raster_info(table, access, "us" if unit == "us" else "operator", most)
    figure(opened, tables[str(by)], f"When each {by} is read and written", raster_plot(info), table)
    st.caption(
        "An access is strided where its elements do not lie one after the other in memory, row by row: transposed, "
        "sliced or expanded. Along the time, an access stands where its operator begins."
        + (
            " A storage is one piece of memory, called by who made it, with which operator, in which shape, and what "
            "it is for; weights, optimiser state and the batch by their names."
            if by == "storage"
            else ""
        )
    )


def _reuse(opened: Opened) -> None:
    table = opened.table("reuse")
    whole = "the whole step"
    name = st.selectbox(
        "Of",
        [whole, *dict.fromkeys(table["component"].astype(str))],
        key=f"{opened.key}.reuse.component",
        width=360,
    )
    info = reuse_info(table, opened.table("caches"), "" if name == whole else str(name))
    figure(opened, "reuse", "How far apart memory is used again", reuse_plot(info), table)
    st.caption(
        "What is used again after more other bytes than a cache holds has left it, if the cache keeps what was used "
        "last. The accesses are *measured*; which cache serves them is *predicted* from the sizes of this machine's."
    )
    levels = opened.table("levels")
    shown = levels.pivot_table(index="component", columns="level", values="bytes", sort=False)
    order = [*opened.table("caches")["level"], "memory", "first use"]
    show_table(
        opened,
        "levels",
        shown[[name for name in order if name in shown.columns]].fillna(0).reset_index(),
        title="Bytes that each component takes from each memory level",
        columns={
            str(name): st.column_config.NumberColumn(f"{name} (bytes)", format="compact")
            for name in dict.fromkeys(levels["level"])
        },
    )


def _matrix(opened: Opened) -> None:
    table = opened.table("hand_overs")
    info = matrix_info(table, list(opened.table("components")["component"]))
    figure(opened, "hand_overs", "What components hand to each other", matrix_plot(info), table)
    st.caption(
        "A row wrote it, a column reads it; a weight counts as written by its component. A number in a cell is the "
        "share that is read only to be copied, where it is a quarter or more; hover for casts and changes of layout."
    )


def _kept(opened: Opened) -> None:
    table = opened.table("kept")
    info = kept_info(table)
    figure(opened, "kept", "What waits for backward", peak_plot(info), table)
    st.dataframe(
        table,
        key=f"{opened.key}.kept.table",
        hide_index=True,
        alt="What waits for backward",
        column_order=["component", "bytes", "storages", "waits"],
        column_config={
            "bytes": st.column_config.NumberColumn("kept (bytes)", format="localized"),
            "storages": st.column_config.NumberColumn("tensors"),
            "waits": st.column_config.ProgressColumn(
                "share of the step that it waits", format="percent", min_value=0, max_value=1
            ),
        },
    )
