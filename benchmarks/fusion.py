"""Fusion over presets: time, operators and bytes of passes forward and of training steps, fused over as they are.

    python benchmarks/fusion.py
    python benchmarks/fusion.py --presets falcon_h1_mini transformer_mini --batches 1 8 --rounds 41 --threads 1
    python benchmarks/fusion.py --regions --presets transformer_mini samba_mini --batches 8 --threads 1

Each case is chosen and measured by ``choose_fusion``: candidates in turn with the plain model, then sets of them, then
the fastest set once more in rounds of its own. Two lines: at least one preset's measured time falls by 10 %, for passes
forward, and nothing is applied that is not measured faster. Differences are held against the tolerance when candidates
are verified.

With ``--regions`` it is components that PyTorch's compiler makes into few kernels, chosen and measured by
``choose_regions`` in processes of their own; that takes minutes a case. Its lines: what is kept is measured faster and
within the tolerance, alone and in the step, each graph break has a reason, and nothing else is applied.
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
from hybridlab.planning.regions.report import RegionsReport
from hybridlab.workflows.fusion import fuse_training
from hybridlab.workflows.regions import regions_training

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


def measured(
    name: str, batch: int, rounds: int, *, training: bool, regions: bool = False
) -> FusionReport | RegionsReport:
    """Measure a preset on the first task that it fits."""
    measure = regions_training if regions else fuse_training
    architecture = loads(preset(name).text())
    for task in TASKS:
        settings = {"task": task, "batch": batch, "device": "cpu"}
        try:
            return measure(architecture, settings, training=training, rounds=rounds)
        except TaskError:
            continue
    raise SystemExit(f"{name} fits none of {', '.join(TASKS)}")


def told(found: RegionsReport) -> None:
    """Print what was tried of each region."""
    for one in found.judged:
        after, ratio = one.compiled, one.ratio
        work = f"{one.plain.kernels:4} kernels {one.plain.moved_bytes / 1e6:8.2f} MB"
        if after is not None:
            work += f" -> {after.kernels:3} {after.moved_bytes / 1e6:8.2f} MB or more"
        time = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else ""
        print(
            f"    {one.name:24} x{len(one.paths):<2} {work:48} {time:22} {one.compile_s or 0:6.1f} s  "
            f"{'kept: ' if one.kept else ''}{one.why}",
            flush=True,
        )


def fusion_lines(results: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return the lines of fused maps and norms, each with whether it is met."""
    gains = [1 - one["ratio"]["value"] for one in results if one["applied"]]
    best = max(gains, default=0.0)
    slower = [one["preset"] for one in results if one["applied"] and one["ratio"]["high"] >= 1]
    return [
        (f"best gain {best:.1%}, line {LEAST_GAIN:.0%}", best >= LEAST_GAIN),
        (f"applied where it is not measured faster: {slower or 'nowhere'}", not slower),
    ]


def regions_lines(results: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return the lines of compiled regions, each with whether it is met."""
    applied = [one for one in results if one["applied"]]
    kept = [one for case in applied for one in case["judged"] if one["kept"]]
    gains = [1 - one["ratio"]["value"] for one in applied]
    slower = [one["preset"] for one in applied if one["ratio"]["high"] >= 1]
    off = [one["preset"] for one in applied if one["error"] > one["tolerance"]]
    worse = [one["name"] for one in kept if one["ratio"]["value"] >= 1 or one["error"] is None]
    silent = [
        one["name"]
        for case in results
        for one in case["judged"]
        if not one["why"] or (one["graphs"] > 1 and not one["breaks"])
    ]
    print(
        f"applied in {len(applied)} of {len(results)} cases, best gain {max(gains, default=0.0):.1%}"
    )
    return [
        (f"applied where it is not measured faster: {slower or 'nowhere'}", not slower),
        (f"applied beyond the tolerance: {off or 'nowhere'}", not off),
        (f"kept though slower alone by the median: {worse or 'nothing'}", not worse),
        (f"left without a reason: {silent or 'nothing'}", not silent),
    ]


def main() -> None:
    """Measure the cases, print the table and the lines, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--regions", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    output = given.output or RESULTS / ("regions.json" if given.regions else "fusion.json")
    torch.set_num_threads(given.threads)
    print(
        f"{'preset':20} {'for':9} {'batch':>5} {'operators':>13} {'moved MB':>15} {'plain ms':>9} {'ratio':>22} "
        f"{'others':>6}  kept"
    )
    results: list[dict[str, Any]] = []
    for name in given.presets:
        for training in (False, True):
            for batch in given.batches:
                found = measured(
                    name, batch, given.rounds, training=training, regions=given.regions
                )
                purpose = "training" if training else "inference"
                ratio, plain = found.ratio, found.plain
                fused = found.compiled if isinstance(found, RegionsReport) else found.fused
                kept = sum(one.kept for one in found.judged) if found.applied else 0
                print(
                    f"{name:20} {purpose:9} {batch:5} {plain.operators:6} {fused.operators:6} "
                    f"{plain.moved_bytes / 1e6:7.2f} {fused.moved_bytes / 1e6:7.2f} {found.plain_ms.value:9.2f} "
                    f"{ratio.value:6.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {found.others_cores:6.2f}  "
                    f"{kept} of {len(found.judged)}",
                    flush=True,
                )
                if isinstance(found, RegionsReport):
                    told(found)
                case = {"preset": name, "for": purpose, "batch": batch}
                results.append({**case, **found.as_dict()})
    lines = regions_lines(results) if given.regions else fusion_lines(results)
    if any(one["busy"] for one in results):
        print("others kept the machine busy: these are no timings")
    for text, met in lines:
        print(f"{'met    ' if met else 'NOT MET'}  {text}")
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": results, "threads": given.threads, "torch": torch.__version__}
    output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(0 if all(met for _, met in lines) else 1)


if __name__ == "__main__":
    main()
