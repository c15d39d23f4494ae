"""Who may start: core tokens, slots and devices, handed out in the order of the queue."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridlab.errors import Problem, RunError
from hybridlab.runs.record import Run

SLOTS_VARIABLE = "HYBRIDLAB_SLOTS"
_MOST_SLOTS = 4
_NVIDIA = re.compile(r"nvidia(\d+)")


@dataclass(frozen=True)
class Capacity:
    """What this machine gives to runs: cores, runs at once, and accelerators, one run on each."""

    cores: int
    slots: int
    devices: tuple[str, ...] = ()

    @property
    def share(self) -> int:
        """Return the threads of a run that does not ask for a number of its own."""
        return max(1, self.cores // self.slots)


def capacity() -> Capacity:
    """Return this machine's capacity; ``HYBRIDLAB_SLOTS`` sets how many runs go at once.

    Raises:
        RunError: ``HYBRIDLAB_SLOTS`` is not a positive whole number.
    """
    cores = core_count()
    text = os.environ.get(SLOTS_VARIABLE, "").strip()
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise RunError(
            Problem(SLOTS_VARIABLE, "not a number of runs", "1 or more", repr(text), "unset it")
        )
    return Capacity(cores, int(text) if text else min(cores, _MOST_SLOTS), accelerators())


@functools.cache
def core_count() -> int:
    """Return the cores this process may use: its affinity, or less where a container's quota gives less."""
    linux = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


def accelerators() -> tuple[str, ...]:
    """Return the accelerators runs can be given, found without importing torch."""
    if sys.platform == "darwin":
        return ("mps",) if os.uname().machine == "arm64" else ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = [part.strip() for part in visible.split(",") if part.strip()]
        return tuple(f"cuda:{part}" for part in chosen if part != "-1")
    try:
        names = sorted(os.listdir("/dev"))  # noqa: PTH208  (one call; no paths are needed)
    except OSError:
        return ()
    return tuple(f"cuda:{match[1]}" for name in names if (match := _NVIDIA.fullmatch(name)))


def startable(
    queue: Iterable[Run], running: Sequence[Run], given: Capacity
) -> list[tuple[Run, str]]:
    """Return the runs that may start now, in order, each with the device it is granted ("cpu" without one).

    First come, first served: a run that waits for cores keeps all behind it waiting, so that a wide run is not
    starved by narrow ones. A run that waits only for an accelerator lets the others pass.
    """
    cores = given.cores - sum(min(run.threads, given.cores) for run in running)
    slots = given.slots - len(running)
    free = [name for name in given.devices if name not in {run.granted for run in running}]
    awaited: set[str] = set()
    chosen: list[tuple[Run, str]] = []
    for run in queue:
        need = min(run.threads, given.cores)
        if slots < 1 or cores < need:
            break
        granted = _device(run.device, given.devices, [name for name in free if name not in awaited])
        if granted is None:
            awaited.update(given.devices if run.device == "auto" else [run.device])
            continue
        if granted in free:
            free.remove(granted)
        cores, slots = cores - need, slots - 1
        chosen.append((run, granted))
    return chosen


def _device(asked: str, devices: Sequence[str], free: Sequence[str]) -> str | None:
    if asked == "cpu" or not devices:
        return "cpu"
    if asked == "auto":
        return free[0] if free else None
    exact = next((name for name in devices if name == asked or name == f"{asked}:0"), None)
    if exact is None:
        return "cpu"
    return exact if exact in free else None


def worker_environment(threads: int, device: str, granted: str) -> dict[str, str]:
    """Return the environment variables that keep a worker to its share of cores and to its device."""
    names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"
    chosen = dict.fromkeys(names, str(threads))
    if device == "auto" and granted.startswith("cuda:"):
        chosen |= {
            "CUDA_VISIBLE_DEVICES": granted.removeprefix("cuda:"),
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
    return chosen
