"""Samples of several lengths: what batches sorted by length save against batches padded to the longest sample."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from hybridlab.ui import predictions, shell, state
from hybridlab.ui.memory.answered import answered, on_demand
from hybridlab.ui.memory.train import train_with_buckets
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.worker_pool import Answer
from hybridlab.views.buckets import buckets_info, buckets_plot, buckets_table

_MOST = (2, 4, 8, 16)


def buckets_section(work: Work) -> None:
    """Compare what sorting saves when asked to, and show what was found; say at once where nothing can be sorted."""
    with st.expander("Samples of several lengths", icon=":material/sort:", key=f"{work.key}.sort"):
        st.caption(
            "A batch is as long as its longest sample. Where a task's samples are of several lengths, batches that are "
            "drawn together, sorted by length and cut anew hold samples of their like, and less padding; each sample "
            "is seen as often as before. With any number of batches, also with 1, padding is no longer read."
        )
        refused = answered(partial(_ask_whether, work), "Looking at the samples' lengths", 0.1, 0.5)
        if refused is None:
            return
        if refused:
            st.info(shell.escaped(refused), icon=":material/do_not_disturb_on:")
            return
        most = _most(work)
        found = on_demand(
            work,
            "sort",
            "Compare and measure",
            ":material/timer:",
            most,
            f"Makes the batches of {most} steps in each way and runs them in turn, with weights that are not "
            "trained; takes a minute or two.",
            "Making batches in each way, and running them in turn",
            partial(_ask, work, most),
        )
        if found is not None:
            _found(work, found)


def _most(work: Work) -> int:
    """Let the user choose how many batches are sorted together at most."""
    chosen = st.segmented_control(
        "Sorted together at most",
        _MOST,
        default=8,
        required=True,
        format_func=lambda count: f"{count} batches",
        key=f"{work.key}.sort.most",
    )
    return int(chosen or 8)


def _ask_whether(work: Work, wait_s: float) -> Answer | None:
    return predictions.not_sorted(work.settings, f"{state.session_name()}.memory.lengths", wait_s)


def _ask(work: Work, most: int, wait_s: float) -> Answer | None:
    owner = f"{state.session_name()}.memory.sort"
    counts = [1, *(count for count in _MOST if count <= most)]
    return predictions.buckets(work.text, work.settings, counts, owner, wait_s)


def _found(work: Work, found: Mapping[str, Any]) -> None:
    """Show the figure and the numbers, and offer to train so."""
    plot = buckets_plot(buckets_info(found))
    figure(work.opened, "sorted", "What sorting samples by length saves", plot)
    table = buckets_table(found)
    show_table(
        work.opened,
        "sorted table",
        table,
        columns={
            name: st.column_config.NumberColumn(format="localized")
            for name in table.columns
            if name.endswith("(bytes)") or name == "positions"
        }
        | {
            name: st.column_config.NumberColumn(format=form)
            for name, form in (
                ("padding (%)", "%.1f"),
                ("step (ms)", "%.2f"),
                ("epoch (s)", "%.2f"),
                ("time / longest", "%.3f"),
                ("from", "%.3f"),
                ("to", "%.3f"),
            )
        },
        title="Each way to make batches, predicted and measured",
    )
    steps = f"{found['steps']} steps of {found['batch']} samples, on {found['threads']} thread"
    busy = (
        " Others used the machine meanwhile: milliseconds are no timings." if found["busy"] else ""
    )
    st.caption(
        f"{steps}{'s' if found['threads'] > 1 else ''}; the same samples in each way. Bytes are predicted as if no "
        f"position were padding, and measured by the profiler's memory events.{busy}"
    )
    _train(work, found)


def _train(work: Work, found: Mapping[str, Any]) -> None:
    """Let the user take a number of batches into the settings of a training."""
    counts = [row["buckets"] for row in found["rows"] if row["buckets"]]
    fastest = found["fastest"] if found["fastest"] in counts else counts[-1]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        chosen = st.segmented_control(
            "Sorted together in a training",
            counts,
            default=fastest,
            required=True,
            format_func=lambda count: f"{count}",
            key=f"{work.key}.sort.chosen",
            help="The fewest that are as fast as any, as measured here, are marked first.",
        )
    with right:
        if st.button(
            "Use in training", icon=":material/model_training:", key=f"{work.key}.sort.train"
        ):
            train_with_buckets(work, int(chosen or fastest))
