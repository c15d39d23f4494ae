"""The planner's plans beside PyTorch's own memory budget, both compiled; each point in processes of its own.

``activation_memory_budget`` once for the step compiled as a whole, as a user of PyTorch would, and once with every
component compiled alone, as plans that compute components again need it: there both are on the same compiled blocks.
Last are plans that choose: a budget within each component, from what each takes compiled alone under every one of the
same budgets, or the step compiled as a whole. For every point of PyTorch's budgets there is the fastest plan that
needs no more memory. All are measured in turns; a time is the median of the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.architecture.library import find
from hybridlab.errors import HybridLabError
from hybridlab.planning.budgets.forms import BUDGETS
from hybridlab.workflows.compiled import point

WHOLE, ALONE, PLANS, CHOSEN = (
    "budget, whole step",
    "budget, by component",
    "planner, by component",
    "planner, budgets chosen",
)
_SAME = 1.001
"""Peaks that are no further apart count as the same."""


def compared(
    name: str,
    spans: Sequence[Sequence[Sequence[int]]],
    settings: Mapping[str, Any],
    rounds: int = 1,
) -> list[dict[str, Any]]:
    """Measure plans (the runs that are computed again) and budgets of a preset; a row each, with why if in vain."""
    text = find(name).read_text(encoding="utf-8")
    training = {"task": settings["task"], "batch": settings["batch"], "device": "cpu"}
    asked = {"architecture": text, "training": training}
    asked |= {key: settings[key] for key in ("steps", "threads")}
    wanted: list[tuple[str, dict[str, Any]]] = [("plain, not compiled", {"share": None})]
    wanted += [(WHOLE, {"share": share}) for share in BUDGETS]
    wanted += [(ALONE, {"share": share, "by_component": True}) for share in BUDGETS]
    rows = [_row(name, source, asked, more) for source, more in wanted]
    began = time.perf_counter()
    budgets = [row for row in rows if row["source"] in (WHOLE, ALONE) and "why" not in row]
    within = {
        **(asked | {"share": None, "plans": len(spans), "within": BUDGETS}),
        "whole": [row for row in budgets if row["source"] == WHOLE],
        "peaks": [int(row["peak_bytes"] * _SAME) for row in budgets],
    }
    try:
        plans = point(within)["plans"]
    except HybridLabError as error:
        print(f"{name:<18} no plans with budgets chosen: {error}", flush=True)
        plans = []
    else:
        print(f"{name:<18} components measured in {time.perf_counter() - began:.0f} s", flush=True)
    also = [(PLANS, {"share": 1.0, "by_component": True, "spans": one}) for one in spans]
    also += [(CHOSEN, plan) for plan in plans if plan["whole"] is None]
    also = [(source, {"share": None, **more}) for source, more in also]
    rows += [_row(name, source, asked, more) for source, more in also]
    wanted += also
    times = [[row["step_ms"]] if "why" not in row else [] for row in rows]
    for _ in range(rounds - 1):
        for taken, (source, more) in zip(times, wanted, strict=True):
            if taken:
                taken.append(_row(name, source, asked, more).get("step_ms", taken[0]))
    for row, taken in zip(rows, times, strict=True):
        if taken:
            row |= {"step_ms": statistics.median(taken), "rounds_ms": taken}
    whole = {row["share"]: row for row in budgets if row["source"] == WHOLE}
    # A plan that is the whole step under a budget is the very step that was measured as that.
    for plan in plans:
        if plan["whole"] is not None:
            rows.append({**whole[plan["whole"]], **plan, "source": CHOSEN})
    return rows


def _row(
    name: str, source: str, asked: Mapping[str, Any], more: Mapping[str, Any]
) -> dict[str, Any]:
    row: dict[str, Any] = {"preset": name, "source": source, **more}
    try:
        found = point({**asked, **more})
    except HybridLabError as error:
        row["why"] = str(error)
    else:
        row |= {**found.pop("figures"), **found}
    predicted = row.get("predicted")
    promised = (
        f" ({predicted['peak_bytes'] / 2**20:.2f} and {predicted['step_ms']:.1f} promised)"
        if predicted
        else ""
    )
    told = row.get("why") or (
        f"{row['peak_bytes'] / 2**20:7.2f} MiB, {row['step_ms']:7.1f} ms{promised}, "
        f"{row.get('graphs', 0)} graphs, {row.get('compile_s', 0.0):.0f} s to compile, "
        f"gradients within {row.get('difference', 0.0):.0e}"
    )
    what = f"{source} {more['share'] if not more.get('spans') else len(more['spans'])}"
    print(f"{name:<18} {what:<28} {told}", flush=True)
    return row


def worst(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return how much longer the best plan takes than a budget that needs as much memory, where that is worst."""
    there = [row for row in rows if "why" not in row]
    plans = [row for row in there if row["source"] == CHOSEN]
    found = [
        min(
            (plan["step_ms"] for plan in plans if plan["peak_bytes"] <= _SAME * row["peak_bytes"]),
            default=float("inf"),
        )
        / row["step_ms"]
        for row in there
        if row["source"] in (WHOLE, ALONE)
    ]
    return max(found, default=float("nan")) - 1
