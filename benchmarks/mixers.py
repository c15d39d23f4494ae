"""Forward plus backward of every token mixer, against its naive form and against SDPA attention.

    python benchmarks/mixers.py
    python benchmarks/mixers.py --lengths 64 128 --width 64 --repeats 3 --output /tmp/mixers.json

All candidates of a length take turns, round after round, and the median counts, so that another process on
the machine slows all of them alike. A naive form is left out, with the reason, where one pass would take
longer than ``--naive-limit`` seconds or keep more than ``--naive-memory``, judged by the length before.
"Kept" are the bytes that forward keeps for backward. The line: from length 256 on no efficient form is
slower than its naive form.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridlab.components.base import BuildContext, Component, Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence
from hybridlab.units import format_bytes, parse_bytes

PEER = "attention"
RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
JUDGED_FROM = 256
"""From this length on an efficient form that is slower than its naive form fails the benchmark."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention, window 128": ("attention", {"window": 128}),
    "attention, 1 kv head, conv 4": ("attention", {"kv_heads": 1, "conv": 4}),
    "mamba2, state 64": ("mamba2", {"state": 64}),
}


@dataclass
class Row:
    """One mixer at one length."""

    mixer: str
    length: int
    ms: float
    times_attention: float
    kept_bytes: int
    naive_ms: float | None = None
    naive_over_efficient: float | None = None
    naive_skipped: str = ""


@dataclass
class Candidate:
    """One form of one mixer, and the times of its passes."""

    run: Callable[[], None]
    seconds: list[float] = field(default_factory=list)


def one_pass(form: Callable[[Tensor], Tensor], module: Component, x: Tensor) -> Callable[[], None]:
    """Return a function that runs forward and backward once and waits for the device."""
    direction = torch.randn_like(x)

    def run() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        form(x).backward(direction)
        if x.device.type != "cpu":
            torch.accelerator.synchronize()

    return run


@dataclass(frozen=True)
class Known:
    """What a naive form took at a length."""

    length: int
    seconds: float
    kept_bytes: int

    def reason_to_skip(self, length: int, options: argparse.Namespace) -> str:
        """Say why a longer pass is not tried; empty where it is. All naive forms grow at least linearly."""
        ratio = length / self.length
        if ratio * self.seconds > options.naive_limit:
            return (
                f"at least {ratio * self.seconds:.2g} s a pass (it took {self.seconds:.2g} s at length "
                f"{self.length}); the limit is {options.naive_limit:g} s"
            )
        if ratio * self.kept_bytes > options.naive_memory:
            return (
                f"it would keep {format_bytes(ratio * self.kept_bytes)} (it kept "
                f"{format_bytes(self.kept_bytes)} at length {self.length}); the limit is "
                f"{format_bytes(options.naive_memory)}"
            )
        return ""


def kept_bytes(form: Callable[[Tensor], Tensor], module: Component, x: Tensor) -> int:
    """Return the bytes that forward keeps for backward, each storage once, weights and input left out."""
    known = {p.untyped_storage().data_ptr() for p in module.parameters()}
    known.add(x.untyped_storage().data_ptr())
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = form(x)
    del output
    return sum(kept.values())


def mixers(names: list[str] | None, width: int, device: torch.device) -> dict[str, Component]:
    """Build every token mixer of the palette with its defaults, and a few variants."""
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        name: (name, {}) for name, info in palette().items() if info.kind is Kind.TOKEN_MIXER
    }
    wanted |= VARIANTS
    if names:
        wanted = {label: what for label, what in wanted.items() if label == PEER or label in names}
    context = BuildContext((sequence(width),), width)
    built = {}
    for label, (name, params) in wanted.items():
        cls = palette()[name].cls
        built[label] = cls(cls.Params(**params), context).to(device)
    return built


def measure(
    built: dict[str, Component],
    length: int,
    options: argparse.Namespace,
    known: dict[str, Known],
) -> list[Row]:
    """Time all mixers and their naive forms at one length, in turns."""
    device = torch.device(options.device)
    x = torch.randn(options.batch, length, options.width, device=device, requires_grad=True)
    candidates: dict[tuple[str, str], Candidate] = {}
    skipped: dict[str, str] = {}
    for label, module in built.items():
        candidates[label, "efficient"] = Candidate(one_pass(module, module, x))
        if label in known and (reason := known[label].reason_to_skip(length, options)):
            skipped[label] = reason
            continue
        candidates[label, "naive"] = Candidate(one_pass(module.reference, module, x))
    slow: set[tuple[str, str]] = set()
    for key, candidate in candidates.items():
        started = time.perf_counter()
        candidate.run()  # warms up
        if key[1] == "naive" and time.perf_counter() - started > options.naive_limit / 4:
            slow.add(key)  # a second pass is enough where one takes so long
    for turn in range(options.repeats):
        for key, candidate in candidates.items():
            if turn and key in slow:
                continue
            started = time.perf_counter()
            candidate.run()
            candidate.seconds.append(time.perf_counter() - started)
    medians = {key: statistics.median(c.seconds) for key, c in candidates.items()}
    rows = []
    for label, module in built.items():
        efficient, naive = medians[label, "efficient"], medians.get((label, "naive"))
        if naive is not None:
            known[label] = Known(length, naive, kept_bytes(module.reference, module, x))
        rows.append(
            Row(
                label,
                length,
                efficient * 1e3,
                efficient / medians[PEER, "efficient"],
                kept_bytes(module, module, x),
                None if naive is None else naive * 1e3,
                None if naive is None else naive / efficient,
                skipped.get(label, ""),
            )
        )
    return rows


def print_table(rows: list[Row]) -> None:
    """Print one line for each mixer and length."""
    print(
        f"{'mixer':30} {'length':>6} {'ms':>9} {'x SDPA':>7} {'kept':>10} {'naive ms':>10} "
        f"{'naive/efficient':>15}"
    )
    for row in rows:
        naive = "skipped" if row.naive_ms is None else f"{row.naive_ms:.1f}"
        ratio = "" if row.naive_over_efficient is None else f"{row.naive_over_efficient:.1f}"
        print(
            f"{row.mixer:30} {row.length:6} {row.ms:9.1f} {row.times_attention:7.2f} "
            f"{format_bytes(row.kept_bytes):>10} {naive:>10} {ratio:>15}"
        )
    for row in rows:
        if row.naive_skipped:
            print(
                f"skipped: the naive form of {row.mixer} at length {row.length}: {row.naive_skipped}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--naive-limit", type=float, default=20.0, help="seconds of one naive pass")
    parser.add_argument(
        "--naive-memory", type=parse_bytes, default="2GiB", help="bytes a naive pass may keep"
    )
    parser.add_argument("--mixers", nargs="+", help="labels of the table; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / "mixers.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    built = mixers(options.mixers, options.width, torch.device(options.device))
    known: dict[str, Known] = {}
    rows: list[Row] = []
    for length in sorted(options.lengths):
        rows += measure(built, length, options, known)
    print_table(rows)
    result = {
        "benchmark": "mixers",
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "torch": torch.__version__,
        "machine": platform.machine(),
        "rows": [asdict(row) for row in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    slower = [
        f"{row.mixer} at {row.length}"
        for row in rows
        if row.length >= JUDGED_FROM and (row.naive_over_efficient or 1.0) < 1.0
    ]
    if slower:
        raise SystemExit("slower than the naive form: " + ", ".join(slower))


if __name__ == "__main__":
    main()
