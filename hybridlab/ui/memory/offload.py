"""Whether what components keep for backward may also leave memory, and in which type."""

from __future__ import annotations

import streamlit as st

from hybridlab.planning.trade_off import TradeOff
from hybridlab.ui import state
from hybridlab.ui.held import key_showing
from hybridlab.ui.memory.work import Work

_CHOICES = {
    "": "stays in memory",
    "same": "may leave, as it is",
    "bfloat16": "may leave, in bfloat16 (lossy)",
}


def offload_of(work: Work) -> str:
    """Return what this session allows: nothing, ``same`` or ``bfloat16``; what a run's own plan does at first."""
    own = work.plan.offload_as if work.plan is not None and work.plan.offload else ""
    return state.keep(f"{work.key}.offload", str(own))


def offload_choice(work: Work, found: TradeOff) -> None:
    """Let the user allow that what components keep leaves memory between their forward and their backward."""
    allowed = offload_of(work)
    name = f"{work.key}.offload.choice"
    key = key_showing(name, allowed)
    left, right = st.columns([1, 1.15], gap="medium", vertical_alignment="center")
    left.segmented_control(
        "What components keep for backward",
        list(_CHOICES),
        default=allowed,
        required=True,
        format_func=lambda one: _CHOICES[one],
        key=key,
        on_change=lambda: state.put(f"{work.key}.offload", str(st.session_state[key] or "")),
        help="A third choice beside keeping and computing again: each plan takes whichever is fastest.",
    )
    if allowed:
        told = f"What leaves memory goes to {found.plain.shelf} and comes back before its backward"
        told += (
            ", in half the bytes: **gradients change a little**, so what is learnt is not the same bit for bit."
            if allowed == "bfloat16"
            else ", with the same bits."
        )
        right.caption(f"{told} How fast that is was measured here, on a few tensors.")
