"""Energy as counters tell it, by named window; where there is no counter there is no figure.

A window is what a counter moved between its two ends, so nothing between readings is missed. Idle power is measured
only when asked, and stands beside the window: what is left after it is taken off is ``net_joules``. A modelled figure
is made only from watts that the user states, and never stands where a measured one would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.hardware.meters.meter import NotMeasured, why

SHORT_SECONDS = 2.0
"""Windows shorter than this are as long as some counters take to move: the figure is rough."""


@dataclass(frozen=True)
class Counter:
    """An energy counter: ``joules`` since some moment, ``covers`` in words what it counts; it may begin again at 0.

    ``wraps_j`` is where it does; it must be read at least once within that energy, which the live samples see to.
    """

    source: str
    covers: str
    joules: Callable[[], float]
    wraps_j: float | None = None


@dataclass(frozen=True)
class Measured:
    """What one counter counted in a window; ``net_joules`` is without idle power, None where that was not measured."""

    source: str
    covers: str
    joules: float
    idle_w: float | None
    net_joules: float | None


@dataclass(frozen=True)
class Modelled:
    """Joules from watts that the user stated: a model, kept apart from everything measured."""

    stated_w: float
    joules: float
    label: str = "modelled: stated watts × seconds"


@dataclass(frozen=True)
class EnergyWindow:
    """The energy of a named window of time.

    ``measured`` is empty where no counter worked, and ``not_measured`` says why. ``idle_seconds`` is for how long idle
    power was measured before, 0 where it was not asked for.
    """

    name: str
    seconds: float
    measured: tuple[Measured, ...]
    not_measured: tuple[NotMeasured, ...]
    idle_seconds: float
    modelled: Modelled | None
    caution: str = ""

    @property
    def joules(self) -> float | None:
        """All counters together; None, never 0, where nothing was measured."""
        return sum(one.joules for one in self.measured) if self.measured else None

    @property
    def net_joules(self) -> float | None:
        """All counters together without idle power; None where either was not measured."""
        parts = [one.net_joules for one in self.measured]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None

    @property
    def reason(self) -> str:
        """Why there is no measured figure; empty where there is one."""
        if self.measured:
            return ""
        return "; ".join(dict.fromkeys(one.reason for one in self.not_measured)) or "no counter"

    def as_dict(self) -> dict[str, Any]:
        """Return the window as plain JSON, ``joules`` null where nothing was measured."""
        return {**asdict(self), "joules": self.joules, "net_joules": self.net_joules}


class EnergyAccount:
    """Adds up what counters tell; safe to use from several threads."""

    def __init__(
        self,
        counters: Sequence[Counter],
        not_measured: Sequence[NotMeasured] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count from here on; a counter that cannot be read at once is told as not measured."""
        self._clock = clock
        self._guard = threading.Lock()
        self._absent = list(not_measured)
        self._counters: dict[str, Counter] = {}
        self._last: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._idle_w: dict[str, float] = {}
        self._idle_seconds = 0.0
        for counter in counters:
            self._counters[counter.source], self._sums[counter.source] = counter, 0.0
        self._covers = {counter.source: counter.covers for counter in counters}
        self.joules()

    @property
    def not_measured(self) -> tuple[NotMeasured, ...]:
        """What is not counted, counters that have gone included."""
        with self._guard:
            return tuple(self._absent)

    @property
    def sources(self) -> tuple[str, ...]:
        """The counters that work."""
        with self._guard:
            return tuple(self._counters)

    def joules(self) -> dict[str, float]:
        """Read every counter and return the joules since the beginning, by source, without those that have gone."""
        with self._guard:
            for source, counter in list(self._counters.items()):
                try:
                    now = counter.joules()
                    moved = self._moved(counter, now)
                except Exception as error:  # it went with its driver, its device or its permission
                    del self._counters[source]
                    self._absent.append(NotMeasured(f"energy by {source}", why(error)))
                else:
                    self._sums[source] += moved
                    self._last[source] = now
            return {source: self._sums[source] for source in self._counters}

    def _moved(self, counter: Counter, now: float) -> float:
        moved = now - self._last.get(counter.source, now)
        if moved >= 0:
            return moved
        if counter.wraps_j is None:
            raise RuntimeError("the counter went back: its device was reset")
        return moved + counter.wraps_j

    def power(self) -> Callable[[], Mapping[str, float]]:
        """Return a reader of ``power_w/<source>``, the mean power since its last reading."""
        before, at = self.joules(), self._clock()

        def read() -> Mapping[str, float]:
            nonlocal before, at
            now, moment = self.joules(), self._clock()
            if not now:
                raise RuntimeError("; ".join(one.reason for one in self.not_measured))
            elapsed = moment - at
            values = {
                f"power_w/{source}": (joules - before[source]) / elapsed
                for source, joules in now.items()
                if elapsed > 0
            }
            before, at = now, moment
            return values

        return read

    def measure_idle(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Rest for some seconds and take the power meanwhile as idle; what else the machine does counts as idle too."""
        before, start = self.joules(), self._clock()
        sleep(seconds)
        after, elapsed = self.joules(), self._clock() - start
        if elapsed > 0:
            self._idle_seconds = elapsed
            self._idle_w = {
                source: (after[source] - joules) / elapsed
                for source, joules in before.items()
                if source in after
            }

    def window(self, name: str, stated_w: float | None = None) -> Callable[[], EnergyWindow]:
        """Begin a window; the function that is returned gives what it holds up to now, as often as it is called.

        With ``stated_w`` there is a modelled figure beside, whatever is measured.
        """
        before, start = self.joules(), self._clock()

        def up_to_now() -> EnergyWindow:
            after, seconds = self.joules(), self._clock() - start
            measured = tuple(
                self._measured(source, after[source] - before[source], seconds)
                for source in before
                if source in after
            )
            modelled = None if stated_w is None else Modelled(stated_w, stated_w * seconds)
            caution = f"shorter than {SHORT_SECONDS:g} s: counters move in steps of up to 0.1 s"
            short = measured and seconds < SHORT_SECONDS
            return EnergyWindow(
                name,
                seconds,
                measured,
                self.not_measured,
                self._idle_seconds,
                modelled,
                caution if short else "",
            )

        return up_to_now

    def _measured(self, source: str, joules: float, seconds: float) -> Measured:
        idle_w = self._idle_w.get(source)
        net = None if idle_w is None else joules - idle_w * seconds
        return Measured(source, self._covers[source], joules, idle_w, net)
