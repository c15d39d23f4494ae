"""How quick the canvas is in a real browser: edits, costs, frames, memory, first paint, and what leaves the page.

    python benchmarks/canvas.py
    python benchmarks/canvas.py --repeats 5 --edits 20

A real Chromium shows the real app. An edit inserts a component that was never seen before, so that nothing of its cost
is known; times are taken inside the page, from the event to the frame in which the change is drawn. CPU time is that
of the server process alone. The lines are those under ``LINES``; medians unless it says otherwise.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app_latency import CpuClock, server
from playwright.sync_api import Browser, Page, sync_playwright

import hybridlab
from hybridlab.architecture.library import save_design

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "journeys"))
from chromium import FLAGS, SEEN, find

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
SCRIPT = Path(__file__).with_suffix(".js")
BUILD = Path(hybridlab.__file__).parent / "ui" / "canvas" / "build"
PATIENCE_MS = 120_000
WARM = 3
LINES: dict[str, tuple[float, str, bool]] = {
    "edit to Python, 12 blocks": (100, "ms", False),
    "edit to its costs drawn, 12 blocks": (300, "ms", False),
    "edit to its costs drawn, 100 nodes": (500, "ms", False),
    "edit drawn on the canvas, 300 nodes": (50, "ms", False),
    "panning, 300 nodes": (45, "frames/s", True),
    "dragging a node, 300 nodes": (45, "frames/s", True),
    "first paint of the Design page, cold browser": (2_500, "ms", False),
    "bundle, gzipped": (250, "kB", False),
    "server CPU per edit, 12 blocks": (60, "ms", False),
    "growth of the JS heap over the edits": (20, "%", False),
    "requests to anywhere but the server": (0, "", False),
}
"""Each figure's limit, its unit, and whether it is the least rather than the most."""


def design(nodes: int) -> str:
    """Return a hybrid of so many nodes, token mixers and channel mixers in turn."""
    uses = ("attention", "swiglu", "mamba2", "swiglu")
    lines = "".join(f"  - {{use: {uses[place % 4]}}}\n" for place in range(nodes))
    return f"name: n{nodes}\nwidth: 64\nnodes:\n{lines}"


def open_design(page: Page, name: str) -> None:
    """Open a saved design on the canvas and select its last node."""
    page.goto("/design")
    page.locator(f"[class*='st-key-saved-{name}'] button").first.click()
    page.locator(".hl-canvas").wait_for()
    page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    page.evaluate("hlBench.settled()")
    page.locator(".hl-canvas").focus()
    page.keyboard.press("End")


def edits(page: Page, clock: CpuClock, count: int, first: int) -> list[dict[str, float]]:
    """Insert components never seen before and remove them again; return the times of the insertions."""
    found = []
    for number in range(count):
        before = clock.ms()
        taken = page.evaluate(
            "node => hlBench.insert(node)",
            {"use": "mlp", "ratio": round(2 + (first + number) / 10_000, 4)},
        )
        found.append({**taken, "cpu": clock.ms() - before})
        page.evaluate("hlBench.remove()")
    return found[WARM:]


def median(found: list[dict[str, float]], key: str) -> float:
    return statistics.median(item[key] for item in found)


def heap_bytes(page: Page) -> float:
    """Return the JS heap's bytes after a collection."""
    tools = page.context.new_cdp_session(page)
    tools.send("HeapProfiler.collectGarbage")
    used = tools.send("Runtime.getHeapUsage")["usedSize"]
    tools.detach()
    return float(used)


def frames(page: Page, start: tuple[float, float], seconds: float = 3.0) -> float:
    """Drag from a place in circles and return the frames per second meanwhile."""
    page.evaluate("ms => { window.hlFrames = hlBench.frames(ms); }", 1e3 * seconds)
    page.mouse.move(*start)
    page.mouse.down()
    until, step = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        step += 1
        page.mouse.move(start[0] + (step * 7) % 160 - 80, start[1] + (step * 3) % 60 - 30)
    page.mouse.up()
    return float(page.evaluate("window.hlFrames"))


def smoothness(page: Page) -> dict[str, float]:
    """Pan the canvas and drag a node of a large design."""
    pane = page.locator(".hl-canvas .react-flow__pane").bounding_box()
    assert pane is not None
    empty = (pane["x"] + 12, pane["y"] + pane["height"] - 120)
    found = {"panning, 300 nodes": frames(page, empty)}
    page.keyboard.press("0")
    page.wait_for_timeout(800)
    box = page.locator(".hl-canvas .hl-box:not(.hl-supplied)").first.bounding_box()
    assert box is not None
    found["dragging a node, 300 nodes"] = frames(
        page, (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    )
    return found


def first_paints(chromium: Browser, url: str, repeats: int) -> list[float]:
    """Return the milliseconds from the address to the page's first words, each in a browser without a cache."""
    found = []
    for _ in range(repeats):
        context = chromium.new_context(base_url=url)
        page = context.new_page()
        began = time.perf_counter()
        page.goto("/design", wait_until="commit")
        page.locator("h1").first.wait_for(timeout=PATIENCE_MS)
        found.append(1e3 * (time.perf_counter() - began))
        context.close()
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures, medians under the names of ``LINES``."""
    foreign: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hybridlab-canvas-") as folder:
        os.environ["HYBRIDLAB_HOME"] = folder
        os.environ.pop("HYBRIDLAB_STORE", None)
        for nodes in (24, 100, 300):
            save_design(f"n{nodes}", design(nodes))
        with server(Path(folder)) as (process, socket), sync_playwright() as playwright:
            url = f"http://{urlsplit(socket).netloc}"
            clock = CpuClock(process.pid)
            chromium = playwright.chromium.launch(executable_path=find(), args=list(FLAGS))
            context = chromium.new_context(base_url=url, viewport={"width": 1440, "height": 900})
            context.add_init_script(SEEN)
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on(
                "request",
                lambda sent: (
                    foreign.append(sent.url)
                    if urlsplit(sent.url).scheme in ("http", "https", "ws", "wss")
                    and urlsplit(sent.url).hostname != "localhost"
                    else None
                ),
            )
            open_design(page, "n24")
            small = edits(page, clock, options.repeats + WARM, 1)
            before = heap_bytes(page)
            edits(page, clock, options.edits // 2 + WARM, 8_000)
            growth = 100 * (heap_bytes(page) / before - 1)
            open_design(page, "n100")
            middle = edits(page, clock, options.repeats + WARM, 2_000)
            open_design(page, "n300")
            large = edits(page, clock, options.repeats + WARM, 3_000)
            smooth = smoothness(page)
            paints = first_paints(chromium, url, max(3, options.repeats // 5))
            chromium.close()
    bundle = sum(
        len(gzip.compress(file.read_bytes()))
        for file in BUILD.iterdir()
        if file.suffix in (".js", ".css")
    )
    return {
        "edit to Python, 12 blocks": median(small, "python"),
        "edit to its costs drawn, 12 blocks": median(small, "costs"),
        "edit to its costs drawn, 100 nodes": median(middle, "costs"),
        "edit drawn on the canvas, 300 nodes": median(large, "echo"),
        **smooth,
        "first paint of the Design page, cold browser": statistics.median(paints),
        "bundle, gzipped": bundle / 1e3,
        "server CPU per edit, 12 blocks": median(small, "cpu"),
        "growth of the JS heap over the edits": growth,
        "requests to anywhere but the server": len(foreign),
        "beside": {
            f"{key} ms, {size}": median(found, key)
            for size, found in (("12 blocks", small), ("100 nodes", middle), ("300 nodes", large))
            for key in ("echo", "python", "heard", "costs", "cpu")
        },
    }


def met(name: str, value: float) -> bool:
    """Say whether a figure keeps within its line."""
    limit, _, least = LINES[name]
    return value >= limit if least else value <= limit


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument(
        "--edits", type=int, default=500, help="edits between the two looks at the heap"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "canvas.json")
    options = parser.parse_args()
    watchdog = threading.Timer(1_800, os._exit, args=(3,))
    watchdog.daemon = True
    watchdog.start()
    found = measure(options)
    print(f"{'figure':48} {'found':>14} {'line':>18}")
    for name, (limit, unit, least) in LINES.items():
        mark = "" if met(name, found[name]) else "   <-- not met"
        bound = "at least" if least else "at most"
        print(f"{name:48} {found[name]:>8.1f} {unit:8} {bound} {limit:g} {unit}{mark}")
    print("beside: " + ", ".join(f"{key} {value:.0f}" for key, value in found["beside"].items()))
    found |= {
        "lines_met": all(met(name, found[name]) for name in LINES),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["lines_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
