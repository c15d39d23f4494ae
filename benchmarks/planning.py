"""The planner's curve of peak and time against uniform recomputation, promised and measured; what planning costs.

    python benchmarks/planning.py
    python benchmarks/planning.py --presets jamba_mini --batch 16 --points 5 --rounds 3 --only measured

Parts: ``predicted`` (every uniform plan by the planner's own account: runs of one, two, three … components all computed
again, every component, every second, third and fourth alone, and every repeat of a group; the curve must be monotone,
its hypervolume at least 1.10 times that of all uniform plans together, and nowhere more than 3 % above one of them),
``measured`` (some points of both, each in processes of its own, in turn, medians: the promised peak within 2 % of the
profiler's memory events, the order of times right for at least 90 % of pairs that differ by more than 10 %),
``speed`` (a curve for 12 blocks, one of them edited, in at most 100 ms and for 100 in at most 2 s, tracing and all; the
first one of a process, and what tracing the whole step would take, are told beside),
``page`` (from an edit of one of 12 blocks to its new curve on the Memory page in at most 300 ms; see
``planning_page``) and, where it is named, ``compiled`` (plans and PyTorch's own budget, both compiled, whichever wins;
see ``planning_compiled``).
Times need a machine that does nothing else. The presets named here were not used to make the planner.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import planning_compiled
import planning_page
import torch

from hybridlab.architecture.document import dump as written
from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.model import build
from hybridlab.architecture.program import program
from hybridlab.architecture.spec import Architecture
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.planner import Planner, planner
from hybridlab.planning.recompute import Recomputing
from hybridlab.planning.record import Budget
from hybridlab.planning.solve import Point, point_of
from hybridlab.planning.tracing import trace_plain
from hybridlab.planning.uniform import Spans, uniform_plans
from hybridlab.profiling.session import device_of, timed
from hybridlab.tasks.registry import fit
from hybridlab.trace.calibration import Calibration
from hybridlab.trace.exact import Recipe
from hybridlab.trace.machine import this_cpu
from hybridlab.training.defaults import prepare
from hybridlab.workflows.plan import plan_step
from hybridlab.workflows.profile import training_step

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
PRESETS = ("griffin_mini", "qwen3_next_mini", "falcon_h1_mini")
PARTS = ("predicted", "measured", "speed", "page")
ASKED = ("compiled",)
"""Parts that run only where they are named: compiling takes minutes a point."""
HYPERVOLUME, WORSE, PEAK, PAIRS = 1.10, 0.03, 0.02, 0.90
SOLVED_S = {12: 0.1, 100: 2.0}
KINDS = ("mamba2, state: 16", "swiglu", "attention, heads: 4", "gated_linear_attention", "mlp")


def uniform(made: Planner) -> dict[str, Spans]:
    """Return the plans that compute again by count alone, by what they do."""
    return uniform_plans(made.names, {p for p, unit in enumerate(made.units) if unit.held})


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both, the smallest first number first."""
    found: list[tuple[float, float]] = []
    for one in sorted(points):
        if not found or one[1] < found[-1][1]:
            found.append(one)
    return found


def hypervolume(points: Iterable[tuple[float, float]], corner: tuple[float, float]) -> float:
    """Return the area that points dominate, up to a corner that is worse than all."""
    total, edge = 0.0, corner[1]
    for peak, took in front(points):
        if peak < corner[0] and took < edge:
            total += (corner[0] - peak) * (edge - took)
            edge = took
    return total


def pair(point: Point) -> tuple[float, float]:
    """Return bytes and milliseconds."""
    return float(point.peak_bytes), point.step_us / 1e3


def predicted(name: str, made: Planner) -> dict[str, Any]:
    """Compare the curve with every uniform plan by the same account."""
    curve = [pair(made.curve.point(index)) for index in range(len(made.curve))]
    others = {label: pair(point_of(made.choices, spans)) for label, spans in uniform(made).items()}
    corner = max(p for p, _ in others.values()) * 1.001, max(t for _, t in others.values()) * 1.001
    ratio = hypervolume(curve, corner) / hypervolume(others.values(), corner)
    worst = 0.0
    for peak, took in others.values():
        best = min(t for p, t in curve if p <= peak)
        worst = max(worst, best / took - 1)
    monotone = all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(curve))
    least = min(p for p, _ in others.values())
    return {
        "preset": name,
        "points": len(curve),
        "uniform": len(others),
        "monotone": monotone,
        "hypervolume_ratio": ratio,
        "worst": worst,
        "plain_bytes": curve[-1][0],
        "least_bytes": curve[0][0],
        "least_uniform_bytes": least,
        "time_at_least_uniform": [
            min(t for p, t in curve if p <= least) / curve[-1][1],
            min(t for p, t in others.values() if p <= least) / curve[-1][1],
        ],
    }


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """Return so many points, evenly by their place and with both ends."""
    places = {round(i * (len(points) - 1) / max(1, count - 1)) for i in range(count)}
    return [points[place] for place in sorted(places)]


def one(settings: dict[str, Any]) -> dict[str, float]:
    """Measure one plan in this process."""
    torch.set_num_threads(settings["threads"])
    task, spec = prepare({"task": settings["task"], "batch": settings["batch"], "device": "cpu"})
    model = build(fit(open_architecture(settings["preset"]), task), task.input_type(), seed=0)
    step = training_step(model, task, spec)
    model.running = Recomputing(program(model), [(a, b) for a, b in settings["spans"]])
    times = timed(step, settings["steps"], device_of(model)) if settings["steps"] else [0.0]
    return {"peak_bytes": measured_peak(step), "step_ms": statistics.median(times)}


def measured(name: str, made: Planner, options: argparse.Namespace) -> dict[str, Any]:
    """Measure some points of the curve and of the best uniform plans, in turn."""
    curve = [made.curve.point(index) for index in range(len(made.curve))]
    others = [point_of(made.choices, spans) for spans in uniform(made).values()]
    best = [p for p in others if pair(p) in front(map(pair, others))]
    best = list({p.peak_bytes: p for p in sorted(best, key=lambda p: p.peak_bytes)}.values())
    rows = [
        {"source": source, "promised": point, "peak_bytes": 0.0, "times": []}
        for source, some in (("planner", curve), ("uniform", best))
        for point in spread(some, options.points)
    ]
    for _, row in itertools.product(range(options.rounds), rows):
        settings = {
            **{key: getattr(options, key) for key in ("task", "batch", "steps", "threads")},
            "preset": name,
            "spans": row["promised"].spans,
        }
        command = [sys.executable, __file__, "--one", json.dumps(settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        row["peak_bytes"] = found["peak_bytes"]
        row["times"].append(found["step_ms"])
    points = [
        {
            "source": row["source"],
            "spans": row["promised"].spans,
            "promised_bytes": row["promised"].peak_bytes,
            "peak_bytes": row["peak_bytes"],
            "peak_error": row["promised"].peak_bytes / row["peak_bytes"] - 1,
            "promised_ms": row["promised"].step_us / 1e3,
            "step_ms": statistics.median(row["times"]),
        }
        for row in rows
    ]
    found = {"preset": name, "points": points}
    found["peak_error"] = max(abs(point["peak_error"]) for point in points)
    if options.steps:
        pairs = [
            (a, b)
            for a, b in itertools.combinations(points, 2)
            if max(a["step_ms"], b["step_ms"]) > 1.1 * min(a["step_ms"], b["step_ms"])
        ]
        right = [
            (a["step_ms"] > b["step_ms"]) == (a["promised_ms"] > b["promised_ms"]) for a, b in pairs
        ]
        found["pairs"] = len(pairs)
        found["pairs_right"] = sum(right) / len(right) if right else 1.0
        by = {
            source: [(p["peak_bytes"], p["step_ms"]) for p in points if p["source"] == source]
            for source in ("planner", "uniform")
        }
        every = by["planner"] + by["uniform"]
        corner = max(p for p, _ in every) * 1.001, max(t for _, t in every) * 1.001
        volume = hypervolume(by["uniform"], corner)
        found["hypervolume_ratio"] = hypervolume(by["planner"], corner) / volume if volume else None
    return found


def blocks(count: int, state: int = 16) -> Architecture:
    """Return so many blocks of five kinds; the state is that of the last one, a Mamba-2."""
    kinds = [KINDS[at % len(KINDS)] for at in range(count - 1)] + [f"mamba2, state: {state}"]
    nodes = ", ".join(f"{{use: {kind}}}" for kind in kinds)
    return loads(f"name: blocks\nwidth: 32\nnodes: [{nodes}]")


def speed(count: int) -> dict[str, float]:
    """Time curves for so many blocks, as wall clock and processor: the first, the same again, edits, a whole trace."""
    asked: dict[str, Any] = {
        "batch": 8,
        "length": 64,
        "roofline": this_cpu(1),
        "calibration": Calibration(),
    }

    def once(architecture: Architecture) -> tuple[float, float]:
        began = time.perf_counter(), time.process_time()
        made = planner(architecture, **asked)
        made.best(Budget(peak_bytes=int(made.curve.peak_bytes[len(made.curve) // 2])))
        return time.perf_counter() - began[0], time.process_time() - began[1]

    first = once(blocks(count))
    again = [once(blocks(count)) for _ in range(5)]
    edits = [once(blocks(count, state)) for state in (8, 12, 20, 24, 28)]
    architecture = blocks(count, 32)
    inference = infer(architecture)
    began = time.process_time()
    trace_plain(architecture, inference, batch=8, length=64, recipe=Recipe())
    whole = time.process_time() - began
    found = {"blocks": count, "whole_trace_cpu_s": whole}
    for name, some in (("first", [first]), ("again", again), ("edit", edits)):
        found[f"{name}_s"] = statistics.median(wall for wall, _ in some)
        found[f"{name}_cpu_s"] = statistics.median(cpu for _, cpu in some)
    return found


def page_lines(row: dict[str, Any]) -> list[str]:
    """Print what an edit took until its curve was on the page; return the lines that are not met."""
    print(
        f"edit to curve: {row['curve_ms']:.0f} ms until it is on the wire, {row['whole_ms']:.0f} until the page "
        f"waits for nothing; {row['server_cpu_ms']:.0f} ms of the server's processor and "
        f"{row['workers_cpu_ms']:.0f} of its processes'; medians of {row['edits']} edits, which themselves take "
        f"{row['edit_ms']:.0f} ms"
    )
    failed = [f"an edit raised {error}" for error in row["errors"]]
    if row["curve_ms"] > planning_page.CURVE_MS:
        failed.append(f"from an edit to its curve: {row['curve_ms']:.0f} ms")
    return failed


def compiled(name: str, made: Planner, options: argparse.Namespace) -> dict[str, Any]:
    """Measure plans and PyTorch's budgets, all compiled, and compare what they dominate; whichever wins is told."""
    curve = [made.curve.point(index) for index in range(len(made.curve))]
    settings = {key: getattr(options, key) for key in ("task", "batch", "threads")}
    settings["steps"] = max(1, options.steps)
    spans = [list(map(list, one.spans)) for one in spread(curve, options.points)]
    rows = planning_compiled.compared(name, spans, settings, options.rounds)
    by: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if "why" not in row:
            by.setdefault(row["source"], []).append((row["peak_bytes"], row["step_ms"]))
    every = [one for some in by.values() for one in some]
    corner = max(p for p, _ in every) * 1.001, max(t for _, t in every) * 1.001
    volumes = {source: hypervolume(some, corner) for source, some in by.items()}
    whole = max(volumes.values()) or 1.0
    shares = {source: volume / whole for source, volume in volumes.items()}
    told = "; ".join(f"{source} {share:.3f}" for source, share in shares.items())
    print(f"{name:<18} hypervolume, the best is 1: {told}", flush=True)
    peers = [
        shares[one] for one in (planning_compiled.WHOLE, planning_compiled.ALONE) if one in shares
    ]
    ratio = shares.get(planning_compiled.CHOSEN, 0.0) / max(peers, default=float("nan"))
    worst = planning_compiled.worst(rows)
    print(
        f"{name:<18} plans with budgets chosen: {ratio:.3f} x the better of PyTorch's budgets, "
        f"{100 * worst:+.1f} % of time at most for the memory of any",
        flush=True,
    )
    return {
        "preset": name,
        "points": rows,
        "hypervolume": shares,
        "hypervolume_ratio": ratio,
        "worst": worst,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--task", default="digits_sequence")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--points", type=int, default=5, help="points of each curve to measure")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each point")
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed; 0: peaks alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--edits", type=int, default=20, help="edits of the part page")
    parser.add_argument("--only", nargs="+", choices=(*PARTS, *ASKED), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS / "planning.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        print(json.dumps(one(json.loads(options.one))))
        return
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"benchmark": "planning", "torch": torch.__version__}
    failed: list[str] = []
    for part in options.only:
        result[part] = []
        if part == "page":
            result[part] = planning_page.edits(written(blocks(12)), 11, "mamba2", options.edits)
            failed += page_lines(result[part])
            continue
        if part == "speed":
            speed(2)
            result[part] = [speed(blocks) for blocks in SOLVED_S]
            for row in result[part]:
                told = ", ".join(
                    f"{name} {1e3 * row[f'{name}_s']:.0f} ms ({1e3 * row[f'{name}_cpu_s']:.0f} of processor)"
                    for name in ("first", "again", "edit")
                )
                print(
                    f"{row['blocks']:4.0f} blocks: {told}; a trace of the whole step alone takes "
                    f"{1e3 * row['whole_trace_cpu_s']:.0f} ms of processor"
                )
                if row["edit_s"] > SOLVED_S[int(row["blocks"])]:
                    failed.append(f"{row['blocks']} blocks take {row['edit_s']:.2f} s")
            continue
        for name in options.presets:
            task, spec = prepare({"task": options.task, "batch": options.batch, "device": "cpu"})
            made = plan_step(fit(open_architecture(name), task), task, spec)
            if part == "compiled":
                result[part].append(compiled(name, made, options))
                continue
            if part == "predicted":
                row = predicted(name, made)
                print(
                    f"{name:<18} {row['points']:3} points, monotone {row['monotone']}, hypervolume "
                    f"{row['hypervolume_ratio']:.3f} x of {row['uniform']} uniform plans, worst "
                    f"{100 * row['worst']:+.1f} %; {row['plain_bytes'] / 2**20:.1f} MiB plain, "
                    f"{row['least_bytes'] / 2**20:.1f} at least (uniform "
                    f"{row['least_uniform_bytes'] / 2**20:.1f}, time x "
                    f"{row['time_at_least_uniform'][0]:.2f} against "
                    f"{row['time_at_least_uniform'][1]:.2f})",
                    flush=True,
                )
                if not row["monotone"] or row["worst"] > WORSE:
                    failed.append(f"{name}: the curve is beaten by {100 * row['worst']:.1f} %")
                if row["hypervolume_ratio"] < HYPERVOLUME:
                    failed.append(f"{name}: hypervolume {row['hypervolume_ratio']:.3f}")
            else:
                row = measured(name, made, options)
                for point in row["points"]:
                    print(
                        f"{name:<18} {point['source']:<8} {point['promised_bytes'] / 2**20:7.2f} MiB "
                        f"promised, {point['peak_bytes'] / 2**20:7.2f} measured "
                        f"({100 * point['peak_error']:+.2f} %); {point['promised_ms']:7.1f} ms "
                        f"promised, {point['step_ms']:7.1f} measured",
                        flush=True,
                    )
                if row["peak_error"] > PEAK:
                    failed.append(f"{name}: a peak is off by {100 * row['peak_error']:.2f} %")
                if options.steps:
                    print(
                        f"{name:<18} order right for {100 * row['pairs_right']:.0f} % of "
                        f"{row['pairs']} pairs, measured hypervolume {row['hypervolume_ratio']:.3f} x"
                    )
                    if row["pairs_right"] < PAIRS:
                        failed.append(f"{name}: {100 * row['pairs_right']:.0f} % of pairs in order")
            result[part].append(row)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
