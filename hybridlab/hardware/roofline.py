"""A three-number model of this machine, enough to say how long an operator takes: compute, bandwidth, overhead."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

_SIDE = 384
_STREAM_FLOATS = 4_000_000
_SMALL_OPS = 200


@dataclass(frozen=True)
class Roofline:
    """Measured speed of one device with one number of threads."""

    flops_per_s: float
    bytes_per_s: float
    overhead_s: float
    """Seconds an operator costs however little it does."""
    source: str

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """Estimate one operator: the longer of computing and moving, plus the overhead."""
        return max(flops / self.flops_per_s, moved_bytes / self.bytes_per_s) + self.overhead_s


@functools.cache
def cpu_roofline(threads: int = 1) -> Roofline:
    """Measure this CPU in about a tenth of a second, once per process.

    Work on other cores disturbs it, so the best of several tries counts; ``hybridlab doctor`` measures more slowly and
    by memory level.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
        x, y = torch.randn(_STREAM_FLOATS), torch.empty(_STREAM_FLOATS)
        small = torch.randn(8)
        flops_per_s = 2 * _SIDE**3 / _best(lambda: a @ b, 20)
        bytes_per_s = 8 * _STREAM_FLOATS / _best(lambda: torch.mul(x, 2.0, out=y), 5)

        def many() -> None:
            for _ in range(_SMALL_OPS):
                small.add(1.0)

        overhead_s = _best(many, 5) / _SMALL_OPS
    finally:
        torch.set_num_threads(before)
    source = (
        f"measured here with {threads} thread{'s' if threads > 1 else ''}: {flops_per_s / 1e9:.0f} GFLOP/s, "
        f"{bytes_per_s / 1e9:.0f} GB/s, {overhead_s * 1e6:.1f} µs per operator"
    )
    return Roofline(flops_per_s, bytes_per_s, overhead_s, source)


def _best(work: Callable[[], object], tries: int) -> float:
    times = []
    for _ in range(tries + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])
