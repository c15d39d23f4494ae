"""What a trace says at a glance: devices, steps by kind of work, how well the devices were used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.hardware.published import LABEL, published
from hybridlab.ui import shell
from hybridlab.ui.profile import trace_memory
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.units import format_bytes, format_count, format_seconds
from hybridlab.views.trace_steps import steps_info, steps_plot, use_info, use_plot

_UNTOLD = (
    "The trace does not tell: {}. Kineto writes the blocks and the occupancy of kernels for NVIDIA's devices only, "
    "and not from every version of CUDA."
)


def draw(opened: Opened) -> None:
    """Show the overview of a trace."""
    figures = opened.figures
    shell.facts(_facts(figures), _HELP)
    for note in figures["notes"]:
        st.caption(f":material/info: {shell.escaped(_sentence(note))}")
    if not opened.has("steps"):
        trace_memory.draw(opened)
        return
    steps = opened.table("steps")
    figure(
        opened, "steps", "Time of each step by kind of work", steps_plot(steps_info(steps)), steps
    )
    _devices(opened, figures)


def _facts(figures: Mapping[str, Any]) -> dict[str, str]:
    timeline = figures.get("memory_timeline")
    if timeline:
        return {"Peak": format_bytes(timeline["peak_bytes"])}
    steps = figures["steps"]
    mean = sum(step["duration_us"] for step in steps) / len(steps)
    found = {
        "Steps": f"{len(steps)}" if figures["steps_recorded"] else "none marked",
        "A step": format_seconds(mean / 1e6),
        "Events": f"{figures['events']:,}",
        "Attributed": _share(figures["attributed"]),
    }
    if figures["device_use"]:
        found["A kernel ran"] = _share(min(use["busy"] for use in figures["device_use"]))
    if figures["world_size"]:
        found["Process"] = f"{figures['rank']} of {figures['world_size']}"
    return found


_HELP = {
    "Attributed": "Share of the time on the device (on the host, where there is none) that belongs to a module or a "
    "recorded range, backward included.",
    "A kernel ran": "Share of the time of all steps in which at least one kernel ran on the device.",
}


def _devices(opened: Opened, figures: Mapping[str, Any]) -> None:
    if figures["devices"]:
        st.markdown("**Devices of the machine**")
        devices = _device_table(figures)
        show_table(opened, "devices", devices)
        if "memory traffic" in devices:
            st.caption(f"Half precision and memory traffic: {LABEL}.")
    if not opened.has("device_use"):
        st.info(
            "This trace recorded no kernels on a device, so there is no utilisation, occupancy or use of tensor cores "
            "to show: shares are of the operators' time on the host.",
            icon=":material/memory_alt:",
        )
        return
    table = opened.table("device_use")
    info = use_info(table)
    figure(opened, "use", "How well the devices were used", use_plot(info), table)
    untold = sorted({name.lower() for device in info for name in device.untold})
    if untold:
        st.caption(_UNTOLD.format(", ".join(untold)))


def _device_table(figures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a device, with what its maker publishes where any of them is known by name."""
    used = {use["device"] for use in figures["device_use"]}
    table = pd.DataFrame(
        [
            {
                "device": device["id"],
                "name": device["name"],
                "memory": format_bytes(device["memory_bytes"]),
                "multiprocessors": device["multiprocessors"],
                "capability": device["compute_capability"],
                "ran kernels here": "yes" if device["id"] in used else "no",
            }
            for device in figures["devices"]
        ]
    )
    peaks = [published(str(device["name"])) for device in figures["devices"]]
    told = [None if peak is None else peak.as_dict() for peak in peaks]
    if any(told):
        table["half precision"] = [
            "not known" if peak is None else format_count(peak["flops_per_s"]["float16"], "FLOP/s")
            for peak in told
        ]
        table["memory traffic"] = [
            "not known" if peak is None else format_count(peak["bytes_per_s"], "B/s")
            for peak in told
        ]
    return table


def _share(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.1f} %"


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}"
