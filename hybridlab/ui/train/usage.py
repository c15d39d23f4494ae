"""What a training uses, beside its curves: what nothing measures here, its energy, and the samples as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from hybridlab.runs.energy_words import energy_words, modelled_words
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.ui import shell
from hybridlab.units import format_bytes

_EVERY_S = 2.0
_METERS = "meters.json"
_STARTS = ("cpu_percent", "rss_bytes", "cores_percent", "core_percent/", "device_", "power_w/")


def usage(run: Run) -> None:
    """Say what is not measured, and why, and how much energy the run took; offer the samples as a file."""
    every = _EVERY_S if run.state.active else None
    with st.container(border=True):
        st.markdown("**What it uses**")
        st.fragment(_told, run_every=every)(run.id)
        if energy := dict((run.result or {}).get("energy") or {}):
            st.caption(f"Energy: {shell.escaped(energy_words(energy))}.")
            if modelled := modelled_words(energy):
                st.caption(f"A model, not a measurement: {shell.escaped(modelled)}.")
        for said in pool_words((run.result or {}).get("pools") or ()):
            st.caption(shell.escaped(said))
        st.download_button(
            "Utilisation (CSV)",
            lambda: usage_csv(run.id),
            f"{run.id}-utilisation.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="Every reading of processor, memory, device and power, by step and running time.",
        )


def pool_words(pools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each memory pool of a run what it held at the end, as its worker measured it."""
    found = []
    for pool in pools:
        count = len(pool["components"])
        held = "never used"
        if pool["reserved_bytes"] is not None:
            held = (
                f"{format_bytes(pool['unused_bytes'])} of {format_bytes(pool['reserved_bytes'])} reserved were not "
                "allocated at the end (measured)"
            )
        found.append(f"Pool {pool['name']}, {count} component{'s' if count != 1 else ''}: {held}.")
    return found


def _told(run_id: str) -> None:
    """Show which meters are read, and in words what none reads."""
    known = meters(run_id)
    if not known:
        st.caption("The meters are told as soon as the training has begun.")
        return
    listed = "; ".join(one["quantity"] for one in known["measured"])
    st.caption(f"*Measured*, {known['hz']:g} a second: {shell.escaped(listed) or 'nothing'}.")
    for absent in known["not_measured"]:
        st.caption(
            f"{shell.escaped(absent['quantity'].capitalize())}: *not measured*: "
            f"{shell.escaped(absent['reason'])}."
        )


def meters(run_id: str) -> dict[str, Any]:
    """Return what a run's worker said of its meters; nothing where it has not said it (yet)."""
    try:
        content = json.loads((run_folder(run_id) / _METERS).read_text(encoding="utf-8"))
        return {
            "hz": float(content["hz"]),
            "measured": [{"quantity": str(one["quantity"])} for one in content["measured"]],
            "not_measured": [
                {"quantity": str(one["quantity"]), "reason": str(one["reason"])}
                for one in content["not_measured"]
            ],
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def usage_csv(run_id: str) -> str:
    """Return the readings of a run's meters as CSV: step, running time in seconds, metric, value.

    The names of metrics end in their units.
    """
    columns = open_store().metrics(run_id)
    rows = zip(columns.step, columns.seconds, columns.name, columns.value, strict=True)
    lines = [
        f"{step},{seconds:.3f},{name},{value!r}"
        for step, seconds, name, value in rows
        if name.startswith(_STARTS)
    ]
    return "\n".join(["step,seconds,metric,value", *lines, ""])
