"""What the page server takes for an edit and for a refresh of live curves, alone and with thirty visitors.

    python benchmarks/app_latency.py
    python benchmarks/app_latency.py --sessions 5 --seconds 10 --repeats 10

The visitors are real sessions without a browser: they speak the server's own protocol over a websocket, send all
their widgets with every rerun and rerun the live fragment every second. CPU time is that of the server process alone,
read from its own clock, so other work on the machine does not count; wall time of a refresh does feel it. Two real
trainings run while refreshes are measured. The lines: an edit of a design of forty nodes at most 60 ms of CPU time and
a live refresh at most 15 ms (medians); with thirty sessions 95 of 100 refreshes within 500 ms, no errors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app_session import Session

from hybridlab.architecture.library import find, save_design
from hybridlab.runs.launcher import cancel, submit, wait
from hybridlab.runs.store import open_store
from hybridlab.training.spec import make

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
EDIT_MS, REFRESH_MS, P95_MS = 60.0, 15.0, 500.0
NODES = 40
FORTY = "name: forty\nwidth: 64\nnodes:\n" + "".join(
    f"  - {{use: {'attention' if place % 2 else 'swiglu'}}}\n" for place in range(NODES)
)


class CpuClock:
    """The CPU time of another process, in milliseconds."""

    def __init__(self, pid: int) -> None:
        """Find the clock: on Linux each process has one under a number made from its pid."""
        self._clock = ((~pid) << 3) | 2

    def ms(self) -> float:
        """Return the CPU time that the process has used so far."""
        return time.clock_gettime_ns(self._clock) / 1e6


@contextmanager
def server(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the app on a free port; give its process and the address of its websocket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "hybridlab.ui.serve", f"--server.port={port}"]
    with (home / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield process, f"ws://localhost:{port}/_stcore/stream"
    finally:
        process.terminate()
        process.wait(30)


async def settle(session: Session, limit_s: float = 120) -> int:
    """Let the page's quick timers run until it has nothing left to wait for; return how often they did."""
    ticks, deadline = 0, time.monotonic() + limit_s
    while time.monotonic() < deadline:
        quick = [item for item in session.timers.items() if item[1] < 1.0]
        if not quick:
            break
        fragment, interval = quick[0]
        await asyncio.sleep(interval)
        await session.tick(fragment)
        ticks += 1
    return ticks


async def edits(url: str, clock: CpuClock, repeats: int, view: str) -> dict[str, Any]:
    """Measure edits of one parameter in a design of forty nodes, each with a value never seen before."""
    session = Session(url)
    await session.open("design")
    await session.change("saved.forty", trigger_value=True)
    await session.change("design.view", string_array_value=["Diagram"])
    await session.change("design.tree", string_value="nodes[1]")
    await session.change("design.view", string_array_value=[view])
    await settle(session)
    drawn, known, walls, errors, size = [], [], [], [], []
    for repeat in range(repeats + 3):
        before = clock.ms()
        result = await session.change(
            "form.nodes[1].attention.rotary_base", double_value=10_000.0 + repeat
        )
        cpu = clock.ms() - before
        await settle(session)
        errors += result.errors
        if repeat >= 3:  # the first ones warm caches
            drawn.append(cpu)
            known.append(clock.ms() - before)
            walls.append(result.seconds * 1e3)
            size.append(result.bytes)
    await session.close()
    return {
        "cpu_ms": statistics.median(drawn),
        "cpu_ms_until_costs_are_known": statistics.median(known),
        "wall_ms": statistics.median(walls),
        "bytes": statistics.median(size),
        "errors": errors,
    }


async def refreshes(url: str, clock: CpuClock, run_id: str, repeats: int) -> dict[str, Any]:
    """Measure one session's refreshes of a running training."""
    session = Session(url)
    await session.open("train", f"run={run_id}")
    cpus, walls, sizes, errors = [], [], [], []
    for repeat in range(repeats + 3):
        await asyncio.sleep(1.0)
        before = clock.ms()
        result = await session.tick(next(iter(session.timers)))
        if repeat >= 3:
            cpus.append(clock.ms() - before)
            walls.append(result.seconds * 1e3)
            sizes.append(result.bytes)
        errors += result.errors
    await session.close()
    return {
        "cpu_ms": statistics.median(cpus),
        "wall_ms": statistics.median(walls),
        "bytes": statistics.median(sizes),
        "errors": errors,
    }


async def crowd(
    url: str, clock: CpuClock, runs: list[str], sessions: int, seconds: float
) -> dict[str, Any]:
    """Let many sessions watch the trainings for a while, each refreshing every second."""
    visitors = [Session(url) for _ in range(sessions)]
    walls: list[float] = []
    errors: list[str] = []

    async def visit(place: int, visitor: Session, until: float) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            result = await visitor.tick(next(iter(visitor.timers)))
            walls.append(result.seconds * 1e3)
            errors.extend(result.errors)
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))

    for place, visitor in enumerate(visitors):
        result = await visitor.open("train", f"run={runs[place % len(runs)]}")
        errors += result.errors
    began, before = time.monotonic(), clock.ms()
    visits = [visit(place, visitor, began + seconds) for place, visitor in enumerate(visitors)]
    for outcome in await asyncio.gather(*visits, return_exceptions=True):
        if isinstance(outcome, BaseException):
            errors.append(repr(outcome))
    share = (clock.ms() - before) / (1e3 * (time.monotonic() - began))
    for visitor in visitors:
        await visitor.close()
    ordered = sorted(walls)
    return {
        "sessions": sessions,
        "refreshes": len(walls),
        "expected": round(sessions * seconds),
        "median_ms": statistics.median(ordered),
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))],
        "most_ms": ordered[-1],
        "cpu_share_of_one_core": share,
        "errors": errors,
    }


def trainings(count: int) -> list[str]:
    """Start trainings that outlast the measurement and wait until each has made a step."""
    text = find("lstm_attention_mini").read_text(encoding="utf-8")
    settings = make({"task": "digits_sequence", "steps": 1_000_000, "batch": 32, "eval_every": 50})
    spec = {"architecture": text, "training": settings.model_dump(mode="json"), "preset": None}
    ids = [submit("train", f"training {n}", spec, threads=1).id for n in range(count)]
    deadline = time.monotonic() + 300
    while any(open_store().get(run_id).step < 1 for run_id in ids):
        if time.monotonic() > deadline:
            raise SystemExit("the trainings did not start within five minutes")
        time.sleep(0.5)
    return ids


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="hybridlab-latency-") as folder:
        os.environ["HYBRIDLAB_HOME"] = folder
        os.environ.pop("HYBRIDLAB_STORE", None)
        save_design("forty", FORTY)
        with server(Path(folder)) as (process, url):
            clock = CpuClock(process.pid)
            edit = asyncio.run(edits(url, clock, options.repeats, "Canvas"))
            drawn = asyncio.run(edits(url, clock, options.repeats, "Diagram"))
            runs = trainings(options.trainings)
            try:
                live = asyncio.run(refreshes(url, clock, runs[0], options.repeats))
                many = asyncio.run(crowd(url, clock, runs, options.sessions, options.seconds))
            finally:
                for run_id in runs:
                    cancel(run_id)
                for run_id in runs:
                    wait(run_id, timeout=60)
    return {"edit": edit, "edit_diagram": drawn, "refresh": live, "crowd": many}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--trainings", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "app_latency.json")
    options = parser.parse_args()
    found = measure(options)
    edit, live, many = found["edit"], found["refresh"], found["crowd"]
    lines = [
        ("edit, 40 nodes, on the canvas: server CPU, median", edit["cpu_ms"], EDIT_MS, "ms"),
        ("edit, 40 nodes, beside the diagram", found["edit_diagram"]["cpu_ms"], EDIT_MS, "ms"),
        ("live refresh: server CPU, median", live["cpu_ms"], REFRESH_MS, "ms"),
        (f"refresh with {many['sessions']} sessions: p95", many["p95_ms"], P95_MS, "ms"),
        ("errors", sum(len(part["errors"]) for part in found.values()), 0, ""),
    ]
    print(f"{'figure':50} {'found':>10} {'at most':>10}")
    for name, value, most, unit in lines:
        mark = "" if value <= most else "   <-- not met"
        print(f"{name:50} {value:>7.1f} {unit:2} {most:>7.0f} {unit:2}{mark}")
    print(
        f"beside: an edit {edit['wall_ms']:.0f} ms of wall time and {edit['bytes'] / 1e3:.0f} kB; "
        f"until its costs are known {edit['cpu_ms_until_costs_are_known']:.0f} ms of CPU; "
        f"a refresh {live['bytes'] / 1e3:.1f} kB; "
        f"{many['refreshes']} of {many['expected']} refreshes, median {many['median_ms']:.0f} ms, "
        f"server at {100 * many['cpu_share_of_one_core']:.0f} % of a core"
    )
    found |= {
        "lines_met": all(value <= most for _, value, most, _ in lines),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["lines_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
