"""Operators of a profiled step as a table, added up by name, component or phase."""

from __future__ import annotations

from typing import Literal

import pandas as pd

By = Literal["op", "component op", "phase op"]
BY: dict[By, str] = {
    "op": "operator",
    "component op": "component and operator",
    "phase op": "phase and operator",
}
_SUMS = {
    "operators": "calls",
    "ms": "ms, measured",
    "flops": "FLOPs",
    "bytes_read": "read (bytes)",
    "bytes_written": "written (bytes)",
    "saved_bytes": "kept (bytes)",
}


def operators_table(operators: pd.DataFrame, by: By = "op", words: str = "") -> pd.DataFrame:
    """Return a report's table ``operators`` with a row for each value of ``by``, the longest first.

    ``words`` leaves those whose operator or component holds them.
    """
    keys = by.split()
    mine = operators
    if wanted := words.strip().lower():
        found = [
            mine[name].str.lower().str.contains(wanted, regex=False) for name in ("op", "component")
        ]
        mine = mine[found[0] | found[1]]
    table = mine.groupby(keys, sort=False, observed=True)[list(_SUMS)].sum().reset_index()
    table = table.sort_values("ms", ascending=False, kind="stable").rename(columns=_SUMS)
    whole = float(operators["ms"].sum())
    place = len(keys) + 2
    table.insert(place, "µs each", 1e3 * table["ms, measured"] / table["calls"])
    table.insert(place, "share (%)", 100 * table["ms, measured"] / max(whole, 1e-12))
    moved = (table["read (bytes)"] + table["written (bytes)"]).clip(lower=1)
    table["FLOPs a byte"] = table["FLOPs"] / moved
    if "device_ms" in mine and mine["device_ms"].notna().any():
        there = mine.groupby(keys, sort=False, observed=True)[["kernels", "device_ms"]].sum()
        there = there.rename(columns={"device_ms": "ms on the device, measured"})
        table = table.join(there, on=keys)
    return table.rename(columns={"op": "operator"}).reset_index(drop=True)


def kernels_table(kernels: pd.DataFrame, words: str = "") -> pd.DataFrame:
    """Return a report's table ``kernels``: what operators started on a device; ``words`` leaves those with them."""
    mine = kernels
    if wanted := words.strip().lower():
        found = [
            mine[name].str.lower().str.contains(wanted, regex=False)
            for name in ("kernel", "component", "op")
        ]
        mine = mine[found[0] | found[1] | found[2]]
    shown = mine.rename(columns={"op": "operator", "ms": "ms on the device, measured"})
    whole = max(float(kernels["ms"].sum()), 1e-12)
    return shown.assign(**{"share (%)": 100 * mine["ms"] / whole}).reset_index(drop=True)
