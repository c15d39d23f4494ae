"""What is kept while the design is read one position at a time: how large its caches are, predicted and measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from hybridlab.ui import predictions, shell, state
from hybridlab.ui.memory.answered import on_demand
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_bytes, format_seconds
from hybridlab.views.caches import caches_info, caches_plot, caches_table

_LONGEST = (64, 256, 1024, 4096, 16_384)
_GROWTH = {"exact": "at each position", "doubling": "twice as much", "reserved": "all at once"}


def caches_section(work: Work) -> None:
    """Let the user choose how far to read; measure when asked to, and show what was found."""
    with st.expander("Caches", icon=":material/inventory_2:", key=f"{work.key}.caches"):
        st.caption(
            "A design that writes on from a prompt is read one position at a time, and keeps something in each "
            "component in between: keys and values, the state of a recurrence, the last inputs of a convolution."
        )
        now = _asked_for(work)
        found = on_demand(
            work,
            "caches",
            "Predict and measure",
            ":material/timer:",
            now,
            "Reads so many positions with weights that are not trained; takes a minute at most.",
            "Reading position after position",
            partial(_ask, work, *now),
        )
        if found is not None:
            _found(work, found)


def _asked_for(work: Work) -> tuple[int, int, str]:
    """Return the most positions, how many sequences are read side by side, and how caches that grow get room."""
    columns = st.columns([2, 1, 2], gap="medium", vertical_alignment="bottom")
    longest = columns[0].segmented_control(
        "Positions at most",
        _LONGEST,
        default=1024,
        required=True,
        format_func=lambda count: f"{count:,}",
        key=f"{work.key}.caches.longest",
    )
    batch = columns[1].number_input(
        "Sequences side by side", 1, 1024, 1, key=f"{work.key}.caches.batch"
    )
    growth = columns[2].segmented_control(
        "Caches that grow get room",
        list(_GROWTH),
        default="exact",
        required=True,
        format_func=lambda name: _GROWTH[name],
        key=f"{work.key}.caches.growth",
        help="At each position all that was there is copied; twice as much or all at once copies less and holds more.",
    )
    return int(longest or 1024), int(batch), str(growth or "exact")


def _ask(work: Work, longest: int, batch: int, growth: str, wait_s: float) -> Answer | None:
    owner = f"{state.session_name()}.memory.caches"
    places = [count for count in (1, 4, 16, *_LONGEST) if count <= longest]
    return predictions.caches(work.text, work.settings, places, batch, growth, owner, wait_s)


def _found(work: Work, found: Mapping[str, Any]) -> None:
    """Say what is kept and what cannot be read so, and show bytes over positions."""
    _told(found)
    if not any(found["predicted_bytes"]):
        st.info(
            "No component keeps anything between two positions.",
            icon=":material/do_not_disturb_on:",
        )
        return
    plot = caches_plot(caches_info(found))
    figure(work.opened, "cache bytes", "Bytes of caches over positions", plot)
    show_table(
        work.opened,
        "cache bytes table",
        caches_table(found),
        columns={
            "a position adds (bytes)": st.column_config.NumberColumn(format="localized"),
        },
        title="What each component keeps, predicted and measured",
    )
    if any(found["copied_bytes"]):
        st.caption(_moved(found))
    resident = [size for size in found["resident_bytes"] if size is not None]
    st.caption(
        "Predicted from what each component says of itself, in float32; measured are the storages that its state "
        "holds."
        + (
            f" The whole process grew by {format_bytes(resident[-1])} meanwhile, whatever else it did included."
            if resident
            else ""
        )
    )
    if found["prefix"]:
        _prefix(found["prefix"])


def _moved(found: Mapping[str, Any]) -> str:
    """Say what making room for the caches that grow copies."""
    last, measured = found["positions"][-1], found["measured_copied_bytes"]
    seen = next((size for size in reversed(measured) if size is not None), None)
    text = f"Making room moves {format_bytes(found['copied_bytes'][-1])} while {last:,} positions are read (predicted)"
    if seen is not None and measured[-1] is not None:
        text += f"; measured {format_bytes(seen)}"
    return text + "."


def _told(found: Mapping[str, Any]) -> None:
    """Say which components have no step form, and how far the measurement got."""
    refused = [f"{one['path']} ({one['why']})" for one in found["no_step"]]
    if found["left_out"]:
        st.info(
            shell.escaped(
                f"{refused[0]} reads whole sequences: everything before it was measured, without it."
            ),
            icon=":material/info:",
        )
    elif refused:
        some = "; ".join(refused[:6]) + (
            f"; and {len(refused) - 6} more" if len(refused) > 6 else ""
        )
        st.warning(
            shell.escaped(
                f"Not everything in this design can be read one position at a time, so nothing was measured: {some}."
            ),
            icon=":material/info:",
        )
    if found["ended"]:
        st.info(
            shell.escaped(f"Reading ended before the last position: {found['ended']}."),
            icon=":material/timer_off:",
        )


def _prefix(trial: Mapping[str, Any]) -> None:
    """Show what keeping states over requests saves."""
    told = trial["report"]
    st.markdown("**Requests that begin alike**")
    columns = st.columns(4)
    for column, name, value, more in (
        (
            columns[0],
            "Begun from a kept state",
            f"{told['hits']} of {told['requests']}",
            f"{trial['shared']:,} of {trial['shared'] + trial['own']:,} positions alike",
        ),
        (
            columns[1],
            "Positions saved, measured",
            f"{100 * told['saved_share']:.0f} %",
            f"{told['saved']:,} of {told['positions']:,}",
        ),
        (
            columns[2],
            "Kept states hold",
            format_bytes(told["held_bytes"]),
            f"{told['kept']} prefixes, {told['evicted']} let go",
        ),
        (
            columns[3],
            "Time, measured",
            format_seconds(trial["cached_s"]),
            f"{format_seconds(trial['plain_s'])} without; logits differ by {trial['difference']:.0e}",
        ),
    ):
        column.metric(name, value, more, delta_color="off", delta_arrow="off", border=True)
    st.caption(
        "States after every 32 positions are kept for later requests, up to "
        f"{format_bytes(told['most_bytes'])}; those used longest ago go first. A state of a recurrence cannot be cut "
        "at an earlier position, so a request begins from the last boundary that it shares."
    )
