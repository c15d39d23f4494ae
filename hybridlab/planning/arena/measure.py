"""What running in an arena is worth: peak bytes and time against the plain pass and against one buffer a tensor."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from hybridlab.planning.arena.inference import PlannedPass, whole_forward
from hybridlab.planning.arena.offsets import place, place_apart
from hybridlab.planning.arena.report import ArenaReport
from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.session import synchronize

_WARM_UP, _GREEDY = 2, 5


@dataclass(frozen=True)
class ArenaMeasured:
    """Peaks beyond weights and inputs, by memory events, and milliseconds of passes that took turns.

    ``apart_peak_bytes`` is the peak of the same pass in a buffer where each tensor has room of its own. All peaks hold
    what kernels take for themselves, and the whole buffer. ``ratio`` is arena over plain, turn by turn; ``greedy_ms``
    is what placing took without the improvement.
    """

    report: ArenaReport
    plain_peak_bytes: int
    arena_peak_bytes: int
    apart_peak_bytes: int
    plain_ms: Median
    arena_ms: Median
    ratio: Median
    greedy_ms: Median

    @property
    def below_apart(self) -> float:
        """How many times less than with one buffer a tensor."""
        return self.apart_peak_bytes / max(1, self.arena_peak_bytes)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        times = {
            name: asdict(getattr(self, name))
            for name in ("plain_ms", "arena_ms", "ratio", "greedy_ms")
        }
        peaks = {
            name: getattr(self, name)
            for name in ("plain_peak_bytes", "arena_peak_bytes", "apart_peak_bytes")
        }
        own = {"report": self.report.as_dict(), "below_apart": self.below_apart}
        return {**peaks, **times, **own}


def measure_arena(
    model: nn.Module, *inputs: Tensor, rounds: int = 15, lend: bool = True
) -> ArenaMeasured:
    """Plan a pass, run it and the plain one in turns, and watch the memory of each.

    Args:
        model: a model in evaluation mode.
        inputs: what its forward is given.
        rounds: how many turns are timed.
        lend: whether the answer lies in the arena; see ``PlannedPass``.

    Raises:
        RunError: the pass cannot be planned.
    """
    planned = PlannedPass(model, *inputs, lend=lend)
    apart = PlannedPass(model, *inputs, lend=lend, place=place_apart)
    forward, _ = whole_forward(model)

    def plain() -> Any:
        with torch.no_grad():
            return forward(*inputs)

    device = inputs[0].device
    plain_ms, arena_ms = _in_turns(plain, lambda: planned(*inputs), device, rounds)
    greedy_ms = [_ms(lambda: place(planned.lifetimes, seconds=0), device) for _ in range(_GREEDY)]
    return ArenaMeasured(
        planned.report,
        peak_bytes(plain, device),
        peak_bytes(lambda: planned(*inputs), device) + planned.arena.bytes,
        peak_bytes(lambda: apart(*inputs), device) + apart.arena.bytes,
        median(plain_ms),
        median(arena_ms),
        median([mine / other for mine, other in zip(arena_ms, plain_ms, strict=True)]),
        median(greedy_ms),
    )


def _in_turns(
    one: Callable[[], object], other: Callable[[], object], device: torch.device, rounds: int
) -> tuple[list[float], list[float]]:
    """Return milliseconds of both, in turns that begin with one and the other by turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARM_UP + rounds):
        pairs = [(one, times[0]), (other, times[1])]
        for run, found in reversed(pairs) if turn % 2 else pairs:
            took = _ms(run, device)
            if turn >= _WARM_UP:
                found.append(took)
    return times


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Run a pass twice and return the most bytes that the second allocates at once; its answer is part of them."""
    run()
    gc.collect()
    if device.type != "cpu":
        before = torch.accelerator.memory_allocated(device)
        torch.accelerator.reset_peak_memory_stats(device)
        run()
        synchronize(device)
        return int(torch.accelerator.max_memory_allocated(device)) - before
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    found = profiler.profiler.kineto_results.events()
    now = most = 0
    for _, change in sorted((e.start_ns(), e.nbytes()) for e in found if e.name() == "[memory]"):
        now += change
        most = max(most, now)
    return most


def _ms(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return 1e3 * (time.perf_counter() - started)
