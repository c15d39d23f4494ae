"""What if: the largest batch or length that fits a card or an amount of memory, and what going beyond costs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from hybridlab.hardware.published import LABEL, PUBLISHED
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.memory.answered import on_demand
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_bytes, format_seconds
from hybridlab.views.fit import fit_info, fit_plot, fit_table

_TYPED = "an amount that I type"
_CARDS = {card.title: card for card in PUBLISHED}
_AXES = {"batch": "batch", "length": "length of samples"}
_UNITS = {"batch": "batch (samples)", "length": "length (positions)"}


def fit_section(work: Work) -> None:
    """Let the user choose a memory and what grows; work it out when asked to, and show what was found."""
    with st.expander("What fits a card", icon=":material/fit_screen:", key=f"{work.key}.fit"):
        now = _asked_for(work)
        found = on_demand(
            work,
            "fit",
            "Work it out",
            ":material/calculate:",
            now,
            "Traces the step at a few sizes, as near to the limit as this machine may, and works out each "
            "plan's peak from there; takes some seconds.",
            "Tracing the step at a few sizes",
            partial(_ask, work, *now),
        )
        if found is not None:
            _found(work, found)


def _asked_for(work: Work) -> tuple[str, str]:
    """Return the memory, as a card's title or as text, and what grows."""
    columns = st.columns([2, 1.2, 1.2], gap="medium", vertical_alignment="bottom")
    card = columns[0].selectbox(
        "Memory of",
        [_TYPED, *_CARDS],
        index=1 + list(_CARDS).index("NVIDIA GeForce RTX 4090"),
        key=f"{work.key}.fit.card",
        format_func=lambda title: (
            title if title == _TYPED else f"{title}, {_CARDS[title].memory_gb:g} GB"
        ),
    )
    typed = columns[1].text_input(
        "Amount",
        "24 GiB",
        key=f"{work.key}.fit.typed",
        disabled=card != _TYPED,
        help="Bytes with a unit, such as 512 MiB.",
    )
    axis = columns[2].segmented_control(
        "What grows",
        list(_AXES),
        default="batch",
        required=True,
        format_func=lambda name: _AXES[name],
        key=f"{work.key}.fit.axis",
    )
    if card in _CARDS:
        st.caption(
            f"[{shell.escaped(card)}]({_CARDS[card].source}): {format_bytes(_CARDS[card].memory_bytes)}, {LABEL}."
        )
    return str(typed).strip() if card == _TYPED else str(card), str(axis)


def _ask(work: Work, memory: str, axis: str, wait_s: float) -> Answer | None:
    owner = f"{state.session_name()}.memory.fit"
    return predictions.fitting(work.text, work.settings, memory, axis, owner, wait_s)


def _found(work: Work, found: Mapping[str, Any]) -> None:
    """Say what fits, and show what sizes beyond the plain step's cost."""
    axis, plain, planned = str(found["axis"]), found["plain"], found["planned"]
    limit = format_bytes(found["limit_bytes"])
    if not planned:
        st.warning(
            f"Not even {axis} 1 fits {limit}: with the smallest plan it needs "
            f"{format_bytes(found['least_bytes'])} (predicted).",
            icon=":material/memory:",
        )
        return
    columns = st.columns(3)
    for column, row, name in (
        (columns[0], plain, "Largest as it is, predicted"),
        (columns[1], planned, "Largest with a plan, predicted"),
    ):
        told = (
            f"{format_bytes(row['peak_bytes'])} of {limit}, {_how(row)}" if row else "does not fit"
        )
        column.metric(
            name,
            f"{axis} {row['size']:,}" if row else "none",
            told,
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    cost = "needs a plan from the first on"
    if plain:
        more = 100 * (planned["sample_ms"] / plain["sample_ms"] - 1)
        cost = f"{format_seconds(planned['step_ms'] / 1e3)} a step, {planned['again']} of {found['components']} "
        cost += "components computed again"
        columns[2].metric(
            "The largest with a plan costs, predicted",
            f"{more:+.0f} % a sample",
            cost,
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Against the largest step that fits as it is; times are this machine's, the share of time that is "
            "computed again is what carries over to a card.",
        )
    else:
        columns[2].metric(
            "The largest with a plan costs",
            "–",
            cost,
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    figure(
        work.opened,
        "what fits",
        "Time a sample over the size",
        fit_plot(fit_info(found)),
    )
    show_table(
        work.opened,
        "what fits table",
        fit_table(found),
        columns={
            "size": st.column_config.NumberColumn(_UNITS[axis], format="localized"),
            "peak_bytes": st.column_config.NumberColumn("peak (bytes)", format="localized"),
            "step_ms": st.column_config.NumberColumn("step (ms)", format="localized"),
            "sample_ms": st.column_config.NumberColumn("time a sample (ms)", format="%.3f"),
            "again": st.column_config.NumberColumn("components computed again"),
            "traced": st.column_config.CheckboxColumn("traced at this size"),
        },
        title="Sizes that fit with their fastest plans, predicted",
    )
    st.caption(
        "Bytes are those of tensors, by the kernels of this machine. On a card, its runtime and what its allocator "
        "cannot use come on top: leave some room. What was not traced is worked out from smaller sizes."
    )


def _how(row: Mapping[str, Any]) -> str:
    return "traced" if row["traced"] else "worked out from smaller sizes"
