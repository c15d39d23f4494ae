"""Layout over presets: what is only copied or cast, between components and within them, and its share of a step.

    python benchmarks/layout.py
    python benchmarks/layout.py --presets mamba2_mini rwkv7_mini --batch 8 --threads 1

What a choice of layouts could gain at most is what is copied now: a share below 10 % means that no layout reaches the
line of 10 % on this machine. Copies are timed one by one, in the median of five runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset, presets
from hybridlab.errors import HybridLabError
from hybridlab.planning import turns
from hybridlab.planning.borders import borders, total_ms
from hybridlab.profiling.medians import median
from hybridlab.trace.step import TrainingStep
from hybridlab.workflows.one_step import one_step

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
TASKS = ("digits_sequence", "digits_image", "mqar")
LEAST_GAIN = 0.10


def step_of(name: str, batch: int, *, training: bool) -> TrainingStep:
    """Return the step of a preset on the first task that it fits."""
    for task in TASKS:
        settings = {"task": task, "batch": batch, "device": "cpu"}
        try:
            return one_step(loads(preset(name).text()), settings, training=training, verb="measure")
        except HybridLabError:
            continue
    raise SystemExit(f"{name} fits none of {', '.join(TASKS)}")


def main() -> None:
    """Measure the cases, print the table and the finding, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=[one.name for one in presets()])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "layout.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    others = turns.Others()
    print(
        f"{'preset':22} {'for':9} {'ms':>8} {'between MB':>11} {'ms':>7} {'within MB':>10} {'ms':>7} {'share':>7}"
    )
    results: list[dict[str, Any]] = []
    for name in given.presets:
        for training in (False, True):
            step = step_of(name, given.batch, training=training)
            turns.run_ms(step)
            whole = median([turns.run_ms(step) for _ in range(given.rounds)])
            found = borders(step)
            between = [one for one in found if one.writer != one.reader]
            within = [one for one in found if one.writer == one.reader]
            case = {
                "preset": name,
                "for": "training" if training else "inference",
                "ms": whole.value,
                "between_bytes": sum(one.copied_bytes for one in between),
                "between_ms": total_ms(between),
                "within_bytes": sum(one.copied_bytes for one in within),
                "within_ms": total_ms(within),
            }
            case["share"] = (case["between_ms"] + case["within_ms"]) / whole.value
            results.append(case)
            print(
                f"{name:22} {case['for']:9} {whole.value:8.2f} {case['between_bytes'] / 1e6:11.2f} "
                f"{case['between_ms']:7.2f} {case['within_bytes'] / 1e6:10.2f} {case['within_ms']:7.2f} "
                f"{case['share']:7.1%}",
                flush=True,
            )
    most = max(results, key=lambda one: one["share"])
    print(f"others used {others.cores():.2f} cores meanwhile")
    print(
        f"most is copied by {most['preset']} in {most['for']}: {most['share']:.1%} of its time; a layout could "
        f"{'reach' if most['share'] >= LEAST_GAIN else 'not reach'} {LEAST_GAIN:.0%}"
    )
    given.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": results, "threads": given.threads, "torch": torch.__version__}
    given.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
