"""How routes, exits, time and memory change with the input: by its class, its length and the batch."""

from __future__ import annotations

from typing import Any

import streamlit as st

from hybridlab.ui import shell
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.profile_classes import classes_info, classes_plot, load_infos, load_plot
from hybridlab.views.profile_sizes import sizes_info, sizes_plot

_HEADINGS = {
    "input_class": "class of input",
    "samples": "samples",
    "length": "length (positions)",
    "score": "score (task's measure)",
    "ms": "ms a sample, median",
    "low_ms": "fastest pass (ms)",
    "high_ms": "slowest pass (ms)",
    "activation_bytes": "activations at the peak (bytes)",
}


def inputs(opened: Opened) -> None:
    """Show what differs between classes of the task's test inputs, and between sizes, run forward as in use."""
    _by_class(opened)
    _by_size(opened)


def _by_size(opened: Opened) -> None:
    """Show how a pass grows with length and batch."""
    sizes = opened.table("size_sizes")
    notes = opened.table("size_notes")
    if not sizes.empty:
        st.markdown("**By length and batch**")
        info = sizes_info(sizes, opened.table("size_components"))
        figure(
            opened,
            "sizes",
            "Time of a forward pass by length and batch",
            sizes_plot(info),
            opened.table("size_components"),
        )
        st.caption(
            "Inference: the test inputs, cut or repeated to each length and batch. A bar is the median of passes "
            "without the profiler, *measured*; its parts are the shares of one pass under it."
        )
        show_table(
            opened,
            "sizes.table",
            sizes,
            title="Forward passes by length and batch",
            columns={
                "length": st.column_config.NumberColumn("length (positions)"),
                "batch": st.column_config.NumberColumn("batch (samples)"),
                "ms": st.column_config.NumberColumn("ms a pass, median", format="%.3f"),
                "low_ms": st.column_config.NumberColumn("from (ms)", format="%.3f"),
                "high_ms": st.column_config.NumberColumn("to (ms)", format="%.3f"),
                "samples_per_s": st.column_config.NumberColumn("samples/s", format="compact"),
                "positions_per_s": st.column_config.NumberColumn("positions/s", format="compact"),
                "activation_bytes": st.column_config.NumberColumn(
                    "activations at the peak (bytes)", format="compact"
                ),
            },
        )
    for note in [] if notes.empty else notes["note"]:
        st.caption(f":material/info: {shell.escaped(str(note))}")


def _by_class(opened: Opened) -> None:
    classes = opened.table("class_classes")
    if classes.empty:
        st.info("This profile was made without classes of input.", icon=":material/info:")
        return
    st.caption(
        "The network ran forward on each class of the task's test inputs, in turns; samples leave at exits as in use. "
        "A time is the median over passes, *measured*."
    )
    if len(classes) == 1:
        st.info(
            "The test inputs of this task do not differ in label, length or variety, and weights that have learned "
            "nothing treat them alike. Profile a trained network: its run's page has a button for it.",
            icon=":material/info:",
        )
    else:
        parts = opened.table("class_components")
        figure(
            opened,
            "classes",
            "Time of each component by class of input",
            classes_plot(classes_info(parts, opened.table("class_spread"))),
            parts,
        )
    reports = opened.table("class_reports")
    found = load_infos(reports)
    for place, column in zip(found, _places(len(found)), strict=True):
        name = f"load.{place.component}.{place.what}"
        mine = (reports["component"] == place.component) & (reports["name"] == place.what)
        with column:
            figure(opened, name, f"Routes of {place.component}", load_plot(place), reports[mine])
    if not found and len(classes) > 1:
        st.caption("No component of this network routes, and none lets samples leave early.")
    show_table(opened, "classes.table", classes, title="Classes of input", columns=_columns())


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    formats = {"score": "%.3f", "ms": "%.3f", "low_ms": "%.3f", "high_ms": "%.3f"}
    formats["activation_bytes"] = "compact"
    plain = {name: st.column_config.Column(_HEADINGS[name]) for name in _HEADINGS}
    return plain | {name: number(_HEADINGS[name], format=how) for name, how in formats.items()}


def _places(count: int) -> list[st.delta_generator.DeltaGenerator]:
    """Return places for so many pictures, two beside each other."""
    found: list[st.delta_generator.DeltaGenerator] = []
    for _ in range(0, count, 2):
        found += st.columns(2)
    return found[:count]
