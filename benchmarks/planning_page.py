"""From an edit of a component on the canvas's form to the new curve on the Memory page, by the server's own protocol.

A session without a browser edits a parameter of the last of twelve blocks, each time to a value never seen before, and
goes to the Memory page. Told are the milliseconds from there until the curve's figure is on the wire (what a browser
then draws is not counted) and until the page has nothing more to wait for, with the processor time of the page server
and of the processes that trace for it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from app_latency import server, settle
from app_session import Session

from hybridlab.architecture.library import save_design

CURVE_MS = 300.0
WARM_UP = 3


def edits(text: str, place: int, use: str, repeats: int) -> dict[str, Any]:
    """Measure edits of the first state size of a design's place; medians in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="hybridlab-planning-") as folder:
        os.environ["HYBRIDLAB_HOME"] = folder
        os.environ.pop("HYBRIDLAB_STORE", None)
        save_design("blocks", text)
        with server(Path(folder)) as (process, url):
            return asyncio.run(_edits(url, psutil.Process(process.pid), place, use, repeats))


async def _edits(
    url: str, process: psutil.Process, place: int, use: str, repeats: int
) -> dict[str, Any]:
    session = Session(url)
    await session.open("design")
    await session.change("saved.blocks", trigger_value=True)
    await session.change("design.view", string_array_value=["Diagram"])
    await settle(session)
    rows: list[dict[str, float]] = []
    errors: list[str] = []
    for repeat in range(repeats + WARM_UP):
        await session.change("design.tree", string_value=f"nodes[{place}]")
        key = f"form.nodes[{place}].{use}.state"
        edit = await session.change(key, double_value=float(8 + repeat))
        await settle(session)
        before = _cpu_ms(process)
        began = time.perf_counter()
        drawn = await session.go("memory")
        curve_ms = 1e3 * drawn.first["plotly_chart"] if "plotly_chart" in drawn.first else None
        while curve_ms is None:  # it was not there within the page's patience
            fragment, interval = next(iter(session.timers.items()))
            await asyncio.sleep(interval)
            asked = time.perf_counter() - began
            tick = await session.tick(fragment)
            errors += tick.errors
            if "plotly_chart" in tick.first:
                curve_ms = 1e3 * (asked + tick.first["plotly_chart"])
            if time.perf_counter() - began > 60:
                raise SystemExit("the curve was not on the page within a minute")
        await settle(session)
        whole_ms = 1e3 * (time.perf_counter() - began)
        after = _cpu_ms(process)
        errors += edit.errors + drawn.errors
        rows.append(
            {
                "curve_ms": curve_ms,
                "whole_ms": whole_ms,
                "server_cpu_ms": after[0] - before[0],
                "workers_cpu_ms": after[1] - before[1],
                "edit_ms": 1e3 * edit.seconds,
            }
        )
        await session.go("design")
        await settle(session)
    await session.close()
    some = rows[WARM_UP:]  # the first ones start processes and warm caches
    found: dict[str, Any] = {name: statistics.median(row[name] for row in some) for name in some[0]}
    return {**found, "edits": len(some), "errors": errors}


def _cpu_ms(process: psutil.Process) -> tuple[float, float]:
    """Return the processor time of a process, and of those that it started, in milliseconds."""

    def of(one: psutil.Process) -> float:
        times = one.cpu_times()
        return 1e3 * (times.user + times.system)

    children = 0.0
    for child in process.children(recursive=True):
        try:
            children += of(child)
        except psutil.Error:
            continue
    return of(process), children
