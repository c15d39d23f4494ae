"""What a worker process uses of processor and memory, for workflows that bring no meters of their own."""

from __future__ import annotations

import psutil


class Sampler:
    """Reads this process's use of the machine: ``rss_bytes`` and ``cpu_percent`` (100 is one core)."""

    def __init__(self) -> None:
        """Begin; the first sample covers the time from here."""
        self._process = psutil.Process()
        self._process.cpu_percent(None)

    def sample(self) -> dict[str, float]:
        """Return the present values; the processor share is the mean since the last sample."""
        return {
            "cpu_percent": self._process.cpu_percent(None),
            "rss_bytes": float(self._process.memory_info().rss),
        }
