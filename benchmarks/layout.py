"""Layout over presets: what is copied or cast, between components, within them and in operators; what a choice gains.

    python benchmarks/layout.py
    python benchmarks/layout.py --only copies --presets mamba2_mini rwkv7_mini --batch 8
    python benchmarks/layout.py --only choice --presets striped_hyena_mini --sizes 8x1024 64x64

Copies are timed one by one. Then the choice is made over the whole graph by ``choose_tuning``, chunks as designed, at
several batches and lengths of associative recall. Two lines: with at least one preset the measured time falls by 10 %,
and nothing is applied that is not measured faster. Times of a step are processor times in turns on one thread, compared
as ratios with their intervals.
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
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.borders import borders, total_ms
from hybridlab.planning.inside import copied_inside
from hybridlab.planning.tuning.knobs import KNOBS
from hybridlab.planning.tuning.measure import choose_tuning
from hybridlab.profiling.medians import median
from hybridlab.trace.step import TrainingStep
from hybridlab.workflows.one_step import one_step

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
TASKS = ("digits_sequence", "digits_image", "mqar")
LEAST_GAIN = 0.10
CHOICE = ("striped_hyena_mini", "lfm2_mini")
SIZES = ("8x64", "64x64", "64x128", "8x1024")
LAYS = [knob for knob in KNOBS if knob.lays]


def step_of(name: str, batch: int, *, training: bool) -> TrainingStep:
    """Return the step of a preset on the first task that it fits."""
    for task in TASKS:
        settings = {"task": task, "batch": batch, "device": "cpu"}
        try:
            return one_step(loads(preset(name).text()), settings, training=training, verb="measure")
        except HybridLabError:
            continue
    raise SystemExit(f"{name} fits none of {', '.join(TASKS)}")


def copies(names: list[str], batch: int, rounds: int) -> list[dict[str, Any]]:
    """Print and return what is copied in passes and steps of presets, and its share of their time."""
    print(
        f"{'preset':22} {'for':9} {'ms':>8} {'between MB':>11} {'ms':>7} {'within MB':>10} {'ms':>7} "
        f"{'inside MB':>10} {'ms':>7} {'share':>7}"
    )
    results = []
    for name in names:
        for training in (False, True):
            step = step_of(name, batch, training=training)
            turns.run_ms(step)
            whole = median([turns.run_ms(step) for _ in range(rounds)])
            found = borders(step)
            kinds = {
                "between": [one for one in found if one.writer != one.reader],
                "within": [one for one in found if one.writer == one.reader],
                "inside": list(copied_inside(step)),
            }
            case: dict[str, Any] = {"preset": name, "for": _purpose(training), "ms": whole.value}
            for kind, them in kinds.items():
                case[f"{kind}_bytes"] = sum(one.copied_bytes for one in them)
                case[f"{kind}_ms"] = total_ms(them)
            case["share"] = sum(case[f"{kind}_ms"] for kind in kinds) / whole.value
            results.append(case)
            told = " ".join(
                f"{case[f'{kind}_bytes'] / 1e6:{10 + (kind == 'between')}.2f} {case[f'{kind}_ms']:7.2f}"
                for kind in kinds
            )
            print(
                f"{name:22} {case['for']:9} {whole.value:8.2f} {told} {case['share']:7.1%}",
                flush=True,
            )
    return results


def choice(names: list[str], sizes: list[str], rounds: int, exact: bool) -> list[dict[str, Any]]:
    """Print and return what the choice of layouts gains; ``exact``: no bit changes."""
    print(f"{'preset':22} {'size':>8} {'for':9} {'ms':>8} {'ratio':>22}  what lies by channels")
    results = []
    for name in names:
        for size in sizes:
            batch, length = map(int, size.split("x"))
            params = {"task": "mqar", "task_params": {"length": length}, "batch": batch}
            for training in (False, True):
                settings = {**params, "device": "cpu"}
                architecture = loads(preset(name).text())
                step = one_step(architecture, settings, training=training, verb="tune")
                found = choose_tuning(step, rounds=rounds, knobs=LAYS, hand_overs=True, exact=exact)
                ratio, tuning = found.ratio, found.tuning
                kept = [f"within {path}" for path in tuning.layout]
                kept += [f"from {path}" for path in tuning.hand_over]
                kept += [f"{form} in {path}" for path, form in tuning.convolution.items()]
                print(
                    f"{name:22} {size:>8} {_purpose(training):9} {found.plain_ms.value:8.2f} "
                    f"{ratio.value:6.3f} [{ratio.low:.3f}, {ratio.high:.3f}]  "
                    f"{', '.join(kept) if found.applied else 'nothing'}",
                    flush=True,
                )
                case = {"preset": name, "size": size, "for": _purpose(training)}
                results.append({**case, **found.as_dict()})
    return results


def _purpose(training: bool) -> str:
    return "training" if training else "inference"


def main() -> None:
    """Measure the cases, print tables and lines, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["copies", "choice"])
    parser.add_argument("--presets", nargs="*")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), help="batch x length")
    parser.add_argument("--batch", type=int, default=8, help="of the table of copies")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--exact", action="store_true", help="choose what changes no bit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "layout.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    others = Others()
    content: dict[str, Any] = {"threads": given.threads, "torch": torch.__version__}
    failed = False
    if given.only != "choice":
        names = given.presets or [one.name for one in presets()]
        content["copies"] = copies(names, given.batch, given.rounds)
    if given.only != "copies":
        cases = choice(given.presets or list(CHOICE), given.sizes, given.rounds, given.exact)
        content["choice"] = cases
        best = min(cases, key=lambda one: float(one["ratio"]["value"]) if one["applied"] else 1.0)
        slower = [one["preset"] for one in cases if one["applied"] and one["ratio"]["high"] >= 1]
        least = float(best["ratio"]["value"]) if best["applied"] else 1.0
        lines = (
            (
                f"time falls by {1 - least:.1%} with {best['preset']} of {best['size']} in {best['for']} (line 10 %)",
                least <= 1 - LEAST_GAIN,
            ),
            (f"applied where it is not measured faster: {slower or 'nowhere'}", not slower),
        )
        for told, met in lines:
            print(f"{'met    ' if met else 'NOT MET'}  {told}")
            failed |= not met
    print(f"others used {others.cores():.2f} cores meanwhile")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
