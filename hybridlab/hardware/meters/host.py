"""The processor and main memory: this process's share, and every core of the machine.

On Linux two files of /proc are read that stay open, a third of what psutil takes; elsewhere psutil is asked.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from hybridlab.hardware.meters.meter import Meter, Meters

_PROC = Path("/proc")
_MOST_BYTES = 1 << 16
_IDLE, _WAITING, _COUNTED = 3, 4, 8
"""Places in a line of /proc/stat: idle, waiting for the disk; what comes after the eighth is in the others already."""
MOST_CORES = 16
"""With more cores only their mean is kept: a curve each would be 16 curves a second and more."""


def host_meters() -> Meters:
    """Return the meters of this process and of the machine's cores.

    Names: ``cpu_percent`` (100 is one core) and ``rss_bytes`` of this process; ``cores_percent`` (mean over the
    machine's cores, other processes included) and ``core_percent/0`` … for each.
    """
    return Meters((_process_meter(), _cores_meter()))


def _process_meter() -> Meter:
    resident, source = _resident()
    before, at = time.process_time(), time.monotonic()

    def read() -> Mapping[str, float]:
        nonlocal before, at
        used, now = time.process_time(), time.monotonic()
        values = {"rss_bytes": resident()}
        if now > at:
            values["cpu_percent"] = 100.0 * (used - before) / (now - at)
        before, at = used, now
        return values

    return Meter("processor and memory of the process", source, read)


def _cores_meter() -> Meter:
    times, source = _times()
    before = times()

    def read() -> Mapping[str, float]:
        nonlocal before
        now = times()
        shares = [
            100.0 * (busy - old_busy) / (total - old_total)
            for (busy, total), (old_busy, old_total) in zip(now, before, strict=False)
            if total > old_total
        ]
        before = now
        if not shares:  # less than a tick of the clock since the last reading
            return {}
        values = {"cores_percent": sum(shares) / len(shares)}
        if len(shares) == len(now) <= MOST_CORES:
            values |= {f"core_percent/{core}": share for core, share in enumerate(shares)}
        return values

    return Meter("each core of the machine", source, read)


def _resident() -> tuple[Callable[[], float], str]:
    """Return what reads this process's memory in bytes, and from where."""
    try:
        file = _opened(_PROC / "self" / "statm", os.getpid())
    except OSError:
        process = psutil.Process()
        return lambda: float(process.memory_info().rss), "psutil"
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return lambda: float(int(os.pread(file, 256, 0).split()[1]) * page_bytes), "/proc/self/statm"


def _times() -> tuple[Callable[[], list[tuple[float, float]]], str]:
    """Return what reads how long each core was busy, and in all, since the machine started; and from where."""
    try:
        file = _opened(_PROC / "stat", os.getpid())
    except OSError:
        return _times_by_psutil, "psutil"

    def read() -> list[tuple[float, float]]:
        found = []
        for line in os.pread(file, _MOST_BYTES, 0).splitlines()[1:]:
            if not line.startswith(b"cpu"):
                break
            ticks = [int(word) for word in line.split()[1 : 1 + _COUNTED]]
            total = sum(ticks)
            found.append((float(total - ticks[_IDLE] - ticks[_WAITING]), float(total)))
        return found

    return read, "/proc/stat"


@functools.cache
def _opened(path: Path, pid: int) -> int:
    """Return a file that stays open for as long as this process, whichever the number of meters."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _times_by_psutil() -> list[tuple[float, float]]:
    found = []
    for times in psutil.cpu_times(percpu=True):
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        found.append((total - times.idle - getattr(times, "iowait", 0.0), total))
    return found
