"""Reads meters at a steady rate in a thread of its own, by a clock that nobody sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from hybridlab.hardware.meters.meter import Meter, NotMeasured, why

LEAST_HZ, MOST_HZ = 1.0, 20.0
OnSample = Callable[[Mapping[str, float]], None]
OnEnd = Callable[[Meter, NotMeasured], None]


class Sampling:
    """Calls ``on_sample`` with the readings of all meters, ``hz`` times a second, until it is closed.

    A meter that cannot be read any more ends by itself: ``on_end`` gets it with the reason, and the others go on.
    A reading that comes late is not made up for.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        on_sample: OnSample,
        *,
        hz: float = LEAST_HZ,
        on_end: OnEnd = lambda meter, reason: None,
    ) -> None:
        """Set the sampling up; ``start`` begins.

        Raises:
            ValueError: the rate is not between 1 and 20 a second.
        """
        if not LEAST_HZ <= hz <= MOST_HZ:
            raise ValueError(f"{hz:g} readings a second; {LEAST_HZ:g} to {MOST_HZ:g} are possible")
        self._meters = list(meters)
        self._on_sample, self._on_end = on_sample, on_end
        self._period_s = 1.0 / hz
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, name="meters", daemon=True)

    def start(self) -> None:
        """Begin to read; the first readings come after one period and cover it."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading; no sample comes after it."""
        self._ending.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def sample(self) -> dict[str, float]:
        """Read every meter that is left, once."""
        values: dict[str, float] = {}
        for meter in tuple(self._meters):
            try:
                values |= meter.read()
            except Exception as error:  # whatever ended it, the run that is watched goes on
                self._meters.remove(meter)
                self._on_end(meter, NotMeasured(meter.quantity, f"the meter ended: {why(error)}"))
        return values

    def _go(self) -> None:
        self.sample()  # begins the readings that are differences
        due = time.monotonic() + self._period_s
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            values = self.sample()
            if values and not self._ending.is_set():
                self._on_sample(values)
            due = max(due + self._period_s, time.monotonic())
