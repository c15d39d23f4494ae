"""How routes, exits, time and memory change with the input: by its class, its length and the batch."""

from __future__ import annotations

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
        info = classes_info(opened.table("class_components"), opened.table("class_spread"))
        st.plotly_chart(
            classes_plot(info),
            key=f"{opened.key}.classes",
            config={"toImageButtonOptions": {"format": "svg"}},
        )
    found = load_infos(opened.table("class_reports"))
    for place, column in zip(found, _places(len(found)), strict=True):
        column.plotly_chart(
            load_plot(place),
            key=f"{opened.key}.load.{place.component}.{place.what}",
            config={"toImageButtonOptions": {"format": "svg"}},
        )
    if not found and len(classes) > 1:
        st.caption("No component of this network routes, and none lets samples leave early.")
    shown = classes.rename(columns=_HEADINGS)
    st.dataframe(shown, key=f"{opened.key}.classes.table", hide_index=True, alt="Classes of input")
    with st.container(horizontal=True):
        for name, title in (
            ("class_classes", "Classes"),
            ("class_components", "Components by class"),
            ("class_reports", "Routes by class"),
        ):
            st.download_button(
                f"{title} (CSV)",
                lambda name=name: opened.table(name).to_csv(index=False),  # type: ignore[misc]
                f"{name}.csv",
                "text/csv",
                icon=":material/download:",
                on_click="ignore",
                key=f"{opened.key}.{name}.csv",
            )


def _places(count: int) -> list[st.delta_generator.DeltaGenerator]:
    """Return places for so many pictures, two beside each other."""
    found: list[st.delta_generator.DeltaGenerator] = []
    for _ in range(0, count, 2):
        found += st.columns(2)
    return found[:count]
