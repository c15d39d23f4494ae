"""What is on all the time costs: the meters alone, and all of it beside a training step.

    python benchmarks/meters.py
    python benchmarks/meters.py --parts sampling --hz 20 --seconds 20
    python benchmarks/meters.py --parts always --rounds 2

Parts: ``sampling``: the meters of a run on this machine are read in their own thread while this process rests; the
process's whole processor time meanwhile is theirs. The line: at 10 Hz less than 1 % of one core.

``always``: a training with everything that is on without being asked for (meters, the look for a request to profile,
component metrics by themselves, live curves written to a real store) against the same steps by a loop written by hand,
in turns in one process. Every turn has the 20 steps that hold one measuring of the components. The lines, by
processor time: at most 8 % on a model that is bound by its operators (about 50 ms a step), 3 % at about 1 s a step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from train_overhead import measure

from hybridlab.hardware.devices import choose
from hybridlab.hardware.meters.here import instruments
from hybridlab.hardware.meters.sampling import Sampling
from hybridlab.runs.store import open_store

LINE = 0.01
PARTS = ("sampling", "always")
STEPS = 20
"""Of one turn: as many as lie between two measurings of the components."""
ALWAYS: tuple[tuple[str, str, dict[str, Any], float], ...] = (
    ("jamba_mini", "mqar", {"batch": 8}, 0.08),
    ("jamba_mini", "python_bytes", {"batch": 48}, 0.03),
)
"""Design, task, settings and line: one that calls much and computes little, one of about a second a step."""
RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"


def sampling(hz: float, seconds: float) -> dict[str, Any]:
    """Read the meters for some seconds; return what that takes of one core."""
    found = instruments(choose("auto"))
    samples: list[int] = []
    reading = Sampling(found.meters.working, lambda values: samples.append(len(values)), hz=hz)
    began, used = time.monotonic(), time.process_time()
    reading.start()
    time.sleep(seconds)
    reading.close()
    elapsed, used = time.monotonic() - began, time.process_time() - used
    print(f"{len(samples)} samples of {max(samples, default=0)} values in {elapsed:.1f} s")
    each_ms = 1e3 * used / max(1, len(samples))
    print(f"{100 * used / elapsed:.3f} % of one core, {each_ms:.3f} ms a sample")
    return {
        "hz": hz,
        "samples": len(samples),
        "share_of_one_core": used / elapsed,
        "meters": found.as_dict(),
    }


def always(rounds: int) -> list[dict[str, Any]]:
    """Train with what is on all the time, and without; return what it costs of the step's processor time."""
    rows = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["HYBRIDLAB_HOME"] = home
        os.environ.pop("HYBRIDLAB_STORE", None)
        for design, task, settings, line in ALWAYS:
            row = measure(design, task, STEPS, rounds, settings=settings)
            cost = 1 / row.share_of_steps - 1
            rows.append(
                {
                    "design": design,
                    "task": task,
                    "batch": row.batch,
                    "by_hand_ms": row.by_hand_ms,
                    "ours_ms": row.ours_ms,
                    "cost": cost,
                    "cost_wall": 1 / row.share_of_steps_wall - 1,
                    "line": line,
                }
            )
            print(
                f"{design} on {task}, batch {row.batch}: {row.by_hand_ms:.1f} ms a step by hand, "
                f"{row.ours_ms:.1f} ms with all that is always on: {100 * cost:+.1f} % (line {100 * line:g} %)"
            )
        open_store().close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of each loop; the median counts"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "meters.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "benchmark": "meters",
        "line": LINE,
        "machine": platform.machine(),
        "threads": options.threads,
    }
    missed = []
    if "sampling" in options.parts:
        found = sampling(options.hz, options.seconds)
        result |= found
        if found["share_of_one_core"] >= LINE:
            missed.append(
                f"{100 * found['share_of_one_core']:.2f} % of one core, not {100 * LINE:g} %"
            )
    if "always" in options.parts:
        result["always"] = always(options.rounds)
        missed += [
            f"{100 * row['cost']:.1f} % of a step of {row['by_hand_ms']:.0f} ms, not {100 * row['line']:g} %"
            for row in result["always"]
            if row["cost"] > row["line"]
        ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    if missed:
        raise SystemExit("; ".join(missed))


if __name__ == "__main__":
    main()
