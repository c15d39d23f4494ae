"""The planner's plans beside PyTorch's own memory budget, both compiled; each point in a process of its own.

``activation_memory_budget`` once for the step compiled as a whole, as a user of PyTorch would, and once with every
component compiled alone, as the planner's plans need it: there both are on the same compiled blocks. Last are plans
that choose a budget within each component, from what each takes compiled alone under every one of the same budgets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.architecture.library import find
from hybridlab.errors import HybridLabError
from hybridlab.planning.budgets.forms import BUDGETS
from hybridlab.workflows.compiled import point


def compared(
    name: str, spans: Sequence[Sequence[Sequence[int]]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Measure plans (the runs that are computed again) and budgets of a preset; a row each, with why if in vain.

    As many plans with budgets within are measured as there are others.
    """
    text = find(name).read_text(encoding="utf-8")
    training = {"task": settings["task"], "batch": settings["batch"], "device": "cpu"}
    asked = {"architecture": text, "training": training}
    asked |= {key: settings[key] for key in ("steps", "threads")}
    wanted: list[tuple[str, dict[str, Any]]] = [("plain, not compiled", {"share": None})]
    wanted += [("budget, whole step", {"share": share}) for share in BUDGETS]
    wanted += [
        ("budget, by component", {"share": share, "by_component": True}) for share in BUDGETS
    ]
    wanted += [
        ("planner, by component", {"share": 1.0, "by_component": True, "spans": one})
        for one in spans
    ]
    within = {**asked, "share": None, "plans": len(spans), "within": BUDGETS}
    began = time.perf_counter()
    try:
        plans = point(within)["plans"]
    except HybridLabError as error:
        print(f"{name:<18} no plans with budgets within: {error}", flush=True)
        plans = []
    else:
        print(f"{name:<18} components measured in {time.perf_counter() - began:.0f} s", flush=True)
    wanted += [("planner, budgets within", {"share": None, **plan}) for plan in plans]
    rows = []
    for source, more in wanted:
        row: dict[str, Any] = {"preset": name, "source": source, **more}
        try:
            found = point({**asked, **more})
        except HybridLabError as error:
            row["why"] = str(error)
        else:
            row |= {**found.pop("figures"), **found}
        rows.append(row)
        predicted = row.get("predicted")
        promised = f", {predicted['peak_bytes'] / 2**20:.2f} promised" if predicted else ""
        told = row.get("why") or (
            f"{row['peak_bytes'] / 2**20:7.2f} MiB{promised}, {row['step_ms']:7.1f} ms, "
            f"{row.get('graphs', 0)} graphs, {row.get('compile_s', 0.0):.0f} s to compile, "
            f"gradients within {row.get('difference', 0.0):.0e}"
        )
        what = f"{source} {more['share'] if 'spans' not in more else len(more['spans'])}"
        print(f"{name:<18} {what:<28} {told}", flush=True)
    return rows
