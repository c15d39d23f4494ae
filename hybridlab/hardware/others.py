"""What else uses the machine while something is measured."""

from __future__ import annotations

import os
import time

import psutil

BUSY_CORES = 0.25
"""Cores that others used meanwhile, from which on figures are not timings."""


class Others:
    """How many cores other processes use from now on."""

    def __init__(self) -> None:
        """Begin to watch."""
        self.began = self._now()

    def cores(self) -> float:
        """Return the mean number of cores that others have used since."""
        wall, all_, mine = (now - then for now, then in zip(self._now(), self.began, strict=True))
        return round(max(0.0, all_ - mine) / wall, 3) if wall > 0.05 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        own = os.times()
        return time.monotonic(), sum(times[:8]) - idle, own.user + own.system
