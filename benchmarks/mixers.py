"""Forward plus backward of every token mixer, and of the recurrences within, beside every peer; and cached steps.

    python benchmarks/mixers.py                      at most 25 minutes on two cores
    python benchmarks/mixers.py --quick              lengths 256 and 1,024, at most 6 minutes
    python benchmarks/mixers.py --mixers mamba "gated delta rule" --lengths 1024 --repeats 9

Whole layers run beside their naive form, beside the same layer of ``transformers`` (its plain PyTorch path) and
``mambapy``; recurrences without maps beside ``mambapy`` and fla's PyTorch references (``pip install --no-deps
fla-core einops``; otherwise reported as not installed). Outputs of recurrences must agree before anything is timed.
All forms of a length take turns, round after round. Others' forms are left out, with the reason, where a pass would
take longer than ``--limit`` seconds or hold more than ``--memory``, judged by shorter lengths, or where ``--minutes``
run out. "Peak" are the bytes that a pass holds at once beyond weights and inputs; of forms that step through time
those that forward keeps (">"). The lines are in ``mixer_lines.py``; the benchmark exits with 1 where one is not met.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mixer_lines import NAIVE, OURS, PEERS, SDPA, Line, Row, StepRow, judged, over
from mixer_peers import peers_of
from mixer_recurrences import disagreements, recurrences
from mixer_steps import steps_of
from mixer_timing import Contest, Form, Limits, measure
from torch import Tensor

from hybridlab.components.base import BuildContext, Component, Kind
from hybridlab.components.fused_scans import which_scan
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence
from hybridlab.units import format_bytes, parse_bytes

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention, window 128": ("attention", {"window": 128}),
    "attention, 1 kv head, conv 4": ("attention", {"kv_heads": 1, "conv": 4}),
    "cross_attention, normed": ("cross_attention", {"qk_norm": True}),
    "mamba2, state 64": ("mamba2", {"state": 64}),
}
CHANNEL_MIXERS = ("mlp", "swiglu", "moe", "rwkv_channel_mix")
"""Those that a peer has."""
AGREE_AT = 128
OTHERS = (NAIVE, *PEERS)
OTHERS_SHARE, ROUNDS_SHARE = 0.6, 0.8
"""Shares of the time after which no other form, and no further round, is begun; steps take the rest."""


def built(label: str, options: argparse.Namespace) -> Component:
    """Build a mixer with its defaults, a variant's parameters, or weights for the longest sequence."""
    name, params = VARIANTS.get(label, (label, {}))
    if name == "mlp_mixer":
        params = {"length": max(options.lengths)}
    cls = palette()[name].cls
    made = cls.Params(**params)
    inputs = tuple(sequence(options.width, length) for length in cls.input_lengths(made))
    return cls(made, BuildContext(inputs, options.width)).to(options.device)


@functools.lru_cache(maxsize=1)
def two_sequences(
    batch: int, length: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what all layers read at a length; the second is for those that read two."""
    first, second = torch.randn(2, batch, length, width, device=device)
    return first.requires_grad_(), second.requires_grad_()


def layer_contest(label: str, module: Component, options: argparse.Namespace) -> Contest:
    """Return a mixer, its naive form and the same layer of others."""
    device = torch.device(options.device)
    forms = [Form(OURS, OURS, module, module)]
    if type(module).reference is not Component.reference:
        forms.append(Form("naive", "naive", module.reference, module))
    peers, absent = peers_of(label, options.width, device)

    def draw(length: int) -> tuple[Tensor, ...]:
        both = two_sequences(options.batch, length, options.width, device)
        return both[: len(module.context.inputs)]

    linear = module.info.cost == "linear"
    return Contest(label, "layer", forms + peers, draw, linear, absent)


def labels(wanted: list[str] | None) -> list[str]:
    """Return the layers to measure: all token mixers, variants, and channel mixers that have a peer."""
    known = [name for name, info in palette().items() if info.kind is Kind.TOKEN_MIXER]
    known += [*VARIANTS, *CHANNEL_MIXERS]
    return [label for label in known if not wanted or label in wanted]


def print_rows(rows: list[Row]) -> None:
    """Print one line for each form and length, with what ours takes of it."""
    ours = {(r.subject, r.length): r for r in rows if r.source in (OURS, SDPA) and r.seconds}
    attention = {
        ("layer", r.length): r for r in rows if r.subject == "attention" and r.source == OURS
    } | {("recurrence", r.length): r for r in rows if r.source == SDPA}
    print(
        f"{'':33} {'form':34} {'length':>6} {'ms':>9} {'x SDPA':>7} {'peak':>12} {'ours/it':>8} {'weights':>9}"
    )
    for row in sorted(rows, key=lambda row: (row.part, row.subject, row.length)):
        what = row.form if row.form == row.source else f"{row.form} ({row.source})"
        start = f"{row.subject:33.33} {what:34.34} {row.length:6}"
        if not row.seconds:
            print(f"{start} skipped: {row.skipped}")
            continue
        mine, softmax = ours.get((row.subject, row.length)), attention.get((row.part, row.length))
        share = f"{over(mine, row):.3f}" if mine and mine is not row else ""
        times = f"{over(row, softmax):.2f}" if softmax and softmax.seconds else ""
        peak = "" if row.peak_bytes is None else format_bytes(row.peak_bytes)
        peak = f"> {peak}" if row.kept_only else peak
        weights = row.parameters or ""
        print(f"{start} {row.ms:9.2f} {times:>7} {peak:>12} {share:>8} {weights:>9}")


def print_steps(steps: list[StepRow]) -> None:
    """Print the milliseconds of one more token by position."""
    for step in steps:
        times = "  ".join(f"{position}: {ms:.3f} ms" for position, ms in step.ms.items())
        grows = ", its cache grows" if step.grows else ""
        print(f"step of {step.mixer:33} {times}  (x {step.ratio:.2f}{grows})")


def print_lines(lines: list[Line]) -> None:
    """Print every line as met or not."""
    for line in sorted(lines, key=lambda line: line.met):
        said = "met    " if line.met else "NOT MET"
        print(f"{said} {line.what}: {line.figure:.3f}, at most {line.limit:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", help="default: 256 1024 4096")
    parser.add_argument("--mixers", nargs="+", help="names of the table; default: all")
    parser.add_argument("--repeats", type=int, help="rounds; default: 5")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--quick", action="store_true", help="lengths 256 1024, 3 rounds, limit 2 s"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], choices=OTHERS, help="forms to leave out, by source"
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument(
        "--limit", type=float, help="seconds of a pass of others' forms; default: 4"
    )
    parser.add_argument("--minutes", type=float, help="to end in; default: 25, and 6 with --quick")
    parser.add_argument(
        "--memory", type=parse_bytes, default="2GiB", help="bytes that such a pass may hold"
    )
    parser.add_argument("--positions", type=int, nargs="*", help="of steps; default: 8 64 512 4096")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / "mixers.json")
    options = parser.parse_args()
    quick = options.quick
    options.lengths = sorted(options.lengths or ([256, 1024] if quick else [256, 1024, 4096]))
    options.repeats = options.repeats or (3 if quick else 5)
    options.limit = options.limit or (2.0 if quick else 4.0)
    options.minutes = options.minutes or (6.0 if quick else 25.0)
    if options.positions is None:
        options.positions = [8, 64, 512] if quick else [8, 64, 512, 4096]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module="transformers")
    device = torch.device(options.device)
    started = time.perf_counter()

    modules = {label: built(label, options) for label in labels(options.mixers)}
    contests = [layer_contest(label, module, options) for label, module in modules.items()]
    apart = recurrences(options.mixers, options.batch, options.width, device)
    if not contests and not apart:
        parser.error(f"--mixers names nothing that is known; known: {', '.join(labels(None))}")
    if wrong := disagreements(apart, AGREE_AT):
        raise SystemExit("peers that compute something else: " + "; ".join(wrong))
    contests += apart
    for contest in contests:
        contest.forms = [form for form in contest.forms if form.source not in options.without]
    limits = Limits(
        *(options.limit, options.memory, options.repeats),
        others_until=started + OTHERS_SHARE * 60 * options.minutes,
        rounds_until=started + ROUNDS_SHARE * 60 * options.minutes,
    )
    rows: list[Row] = []
    for length in options.lengths:
        found = measure(contests, length, rows, limits)
        print_rows(found)
        rows += found
    steps = []
    for label, module in modules.items():
        if options.positions and module.causal(module.params) is True:
            row = steps_of(label, module, options.positions, options.batch, device)
            steps += [row] if row else []
    lines = list(judged(rows, steps))
    seconds = time.perf_counter() - started

    absent = {c.subject: c.absent for c in contests if c.absent}
    for subject, missing in absent.items():
        for name, reason in missing.items():
            print(f"absent: {name} beside {subject}: {reason}")
    print_steps(steps)
    print_lines(lines)
    print(f"{which_scan()} {options.threads} threads, {seconds / 60:.1f} minutes.")
    result = {
        "benchmark": "mixers",
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "torch": torch.__version__,
        "machine": platform.machine(),
        "scans": which_scan(),
        "seconds": seconds,
        "rows": [asdict(row) for row in rows],
        "absent": absent,
        "steps": [asdict(step) for step in steps],
        "lines": [asdict(line) for line in lines],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    missed = [line.what for line in lines if not line.met]
    if missed:
        raise SystemExit(f"{len(missed)} of {len(lines)} lines not met: " + "; ".join(missed))


if __name__ == "__main__":
    main()
