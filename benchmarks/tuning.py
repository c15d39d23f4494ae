"""Tuning over presets: chunks of scans and layouts of convolutions, as fastest here over as designed.

    python benchmarks/tuning.py
    python benchmarks/tuning.py --presets mamba2_mini xlstm_mini --task python_bytes --rounds 31 --threads 1

Each case is chosen and measured by ``choose_tuning``: each component alone in its ways, then what is faster in the
whole step, in rounds of its own. One line: nothing is applied that is not measured faster. Nothing is kept for the
machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset
from hybridlab.planning.tuning.measure import choose_tuning
from hybridlab.workflows.one_step import one_step

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
PRESETS = (
    "mamba2_mini",
    "falcon_h1_mini",
    "samba_mini",
    "xlstm_mini",
    "minimax_mini",
    "kimi_linear_mini",
    "qwen3_next_mini",
    "rwkv7_mini",
    "striped_hyena_mini",
)


def main() -> None:
    """Measure the cases, print the table and the line, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--task", default="mqar")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "tuning.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results: list[dict[str, Any]] = []
    print(
        f"{'preset':20} {'for':9} {'ms':>8} {'ratio':>22} {'others':>6}  what is kept, and of chunks what was tried"
    )
    for name in given.presets:
        for training in (False, True):
            settings = {"task": given.task, "batch": given.batch, "device": "cpu"}
            step = one_step(loads(preset(name).text()), settings, training=training, verb="tune")
            found = choose_tuning(step, rounds=given.rounds)
            purpose = "training" if training else "inference"
            kept = [
                f"{one.component.split()[0]} {one.knob} {one.value} {one.ratio.value:.2f}"
                for one in found.judged
                if one.kept and one.ratio is not None
            ]
            tried = [
                f"{one.component.split()[0]} {way.value}: {way.ratio.value:.2f}"
                for one in found.judged
                if one.knob == "chunk"
                for way in one.tried
                if way.ratio is not None
            ]
            ratio = found.ratio
            print(
                f"{name:20} {purpose:9} {found.plain_ms.value:8.2f} "
                f"{ratio.value:6.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {found.others_cores:6.2f}  "
                f"{'; '.join(kept) if found.applied else 'nothing'} | {', '.join(tried)}",
                flush=True,
            )
            results.append({"preset": name, "for": purpose, **found.as_dict()})
    slower = [one["preset"] for one in results if one["applied"] and one["ratio"]["high"] >= 1]
    if any(one["busy"] for one in results):
        print("others kept the machine busy: these are no timings")
    print(
        f"{'NOT MET' if slower else 'met    '}  applied where it is not measured faster: {slower or 'nowhere'}"
    )
    given.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": results, "threads": given.threads, "torch": torch.__version__}
    given.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(1 if slower else 0)


if __name__ == "__main__":
    main()
