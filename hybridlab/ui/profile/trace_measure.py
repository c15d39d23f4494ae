"""What the views of a trace share: time on the device or on the host, and columns of times with their unit."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import streamlit as st

from hybridlab.ui.profile.opened import Opened

_OF_TWO = {"calls_a": "calls before", "calls_b": "calls after", "us_a": "before", "us_b": "after"}
"""Columns of the first and the second of two traces that are compared."""


def measure(opened: Opened, name: str) -> Literal["device", "host"]:
    """Let a person choose which time is meant, where the trace has both; return the choice."""
    if not opened.figures["kernels"]:
        return "host"
    chosen: Literal["device", "host"] = st.segmented_control(
        "Time",
        ["device", "host"],
        default="device",
        format_func=lambda place: f"on the {place}",
        required=True,
        key=f"{opened.key}.{name}.measure",
    )
    return chosen


def time_columns(table: pd.DataFrame) -> dict[str, Any]:
    """Return Streamlit's settings for the columns of a table: times in µs, shares in %, bytes with their unit."""
    found: dict[str, Any] = {}
    for name in map(str, table.columns):
        words = name.replace("_", " ")
        if name.endswith("_us"):
            title = f"{words.removesuffix(' us')} (µs)"
            found[name] = st.column_config.NumberColumn(title, format="%.1f")
        elif name in _OF_TWO:
            unit = " (µs)" if name.startswith("us_") else ""
            format = "%.1f" if unit else "localized"
            found[name] = st.column_config.NumberColumn(f"{_OF_TWO[name]}{unit}", format=format)
        elif name.endswith("_bytes"):
            found[name] = st.column_config.NumberColumn(
                f"{words.removesuffix(' bytes')} (bytes)", format="localized"
            )
        elif name == "share":
            found[name] = st.column_config.NumberColumn(words, format="percent")
        elif name in ("occupancy", "blocks_per_sm", "gbytes_per_s"):
            unit = {"occupancy": " (%)", "gbytes_per_s": " (GB/s)"}.get(name, "")
            title = words.removesuffix(" per s").replace("gbytes", "rate") + unit
            found[name] = st.column_config.NumberColumn(title, format="%.2f")
        else:
            found[name] = st.column_config.Column(words)
    return found
