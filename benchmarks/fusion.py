"""Fusion over presets: time, operators and bytes of passes forward and of training steps, fused over as they are.

    python benchmarks/fusion.py
    python benchmarks/fusion.py --presets falcon_h1_mini transformer_mini --batches 1 8 --rounds 41 --threads 1

Each case is chosen and measured by ``choose_fusion``: candidates in turn with the plain model, then sets of them, then
the fastest set once more in rounds of its own. Two lines: at least one preset's measured time falls by 10 %, for passes
forward, and nothing is applied that is not measured faster. Differences are held against the tolerance when candidates
are verified.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset
from hybridlab.errors import TaskError
from hybridlab.planning.fusion.measure import FusionReport
from hybridlab.workflows.fusion import fuse_training

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
TASKS = ("mqar", "digits_sequence")
PRESETS = (
    "transformer_mini",
    "falcon_h1_mini",
    "hymba_mini",
    "samba_mini",
    "griffin_mini",
    "xlstm_mini",
    "kimi_linear_mini",
    "qwen3_next_mini",
)
LEAST_GAIN = 0.10


def measured(name: str, batch: int, rounds: int, *, training: bool) -> FusionReport:
    """Measure a preset on the first task that it fits."""
    architecture = loads(preset(name).text())
    for task in TASKS:
        settings = {"task": task, "batch": batch, "device": "cpu"}
        try:
            return fuse_training(architecture, settings, training=training, rounds=rounds)
        except TaskError:
            continue
    raise SystemExit(f"{name} fits none of {', '.join(TASKS)}")


def main() -> None:
    """Measure the cases, print the table and the lines, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "fusion.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"{'preset':20} {'for':9} {'batch':>5} {'operators':>13} {'moved MB':>15} {'plain ms':>9} {'ratio':>22} "
        f"{'others':>6}  kept"
    )
    results: list[dict[str, Any]] = []
    for name in given.presets:
        for training in (False, True):
            for batch in given.batches:
                found = measured(name, batch, given.rounds, training=training)
                purpose = "training" if training else "inference"
                ratio, plain, fused = found.ratio, found.plain, found.fused
                kept = sum(one.kept for one in found.judged) if found.applied else 0
                print(
                    f"{name:20} {purpose:9} {batch:5} {plain.operators:6} {fused.operators:6} "
                    f"{plain.moved_bytes / 1e6:7.2f} {fused.moved_bytes / 1e6:7.2f} {found.plain_ms.value:9.2f} "
                    f"{ratio.value:6.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {found.others_cores:6.2f}  "
                    f"{kept} of {len(found.judged)}",
                    flush=True,
                )
                case = {"preset": name, "for": purpose, "batch": batch}
                results.append({**case, **found.as_dict()})
    gains = [1 - one["ratio"]["value"] for one in results if one["applied"]]
    best = max(gains, default=0.0)
    slower = [one["preset"] for one in results if one["applied"] and one["ratio"]["high"] >= 1]
    lines = [
        (f"best gain {best:.1%}, line {LEAST_GAIN:.0%}", best >= LEAST_GAIN),
        (f"applied where it is not measured faster: {slower or 'nowhere'}", not slower),
    ]
    if any(one["busy"] for one in results):
        print("others kept the machine busy: these are no timings")
    for text, met in lines:
        print(f"{'met    ' if met else 'NOT MET'}  {text}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": results, "threads": given.threads, "torch": torch.__version__}
    given.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(0 if all(met for _, met in lines) else 1)


if __name__ == "__main__":
    main()
