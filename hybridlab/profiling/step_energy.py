"""The energy of one step, by counters over a window that is long enough for them, without idle power where it is known.

No counter tells components apart: each gets the share of the step's joules that it has of the step's time. That energy
follows time is assumed, and said wherever the figures stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybridlab.hardware.meters.energy import EnergyAccount, EnergyWindow

SECONDS = 5.0
"""Counters move in steps of up to a tenth of a second, and some sample a quarter of the time (arXiv:2312.02741)."""
IDLE_SECONDS = 3.0
_COVERS = "steps one after the other, without the profiler"


@dataclass(frozen=True)
class StepEnergy:
    """What counters told of so many steps; ``window`` says why where there was none."""

    window: EnergyWindow
    steps: int

    @property
    def joules(self) -> float | None:
        """Joules of one step, idle power included; None, never 0, where nothing was measured."""
        return self._each(self.window.joules)

    @property
    def net_joules(self) -> float | None:
        """Joules of one step without idle power; None where either was not measured."""
        return self._each(self.window.net_joules)

    @property
    def shared_joules(self) -> float | None:
        """What components share: the joules of a step without idle power, or with it where that is not known."""
        return self.joules if self.net_joules is None else self.net_joules

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON, by the names that a run's energy has too."""
        window = self.window
        return {
            "covers": _COVERS,
            "seconds": window.seconds,
            "steps": self.steps,
            "joules": window.joules,
            "net_joules": window.net_joules,
            "joules_per_step": self.joules,
            "net_joules_per_step": self.net_joules,
            "not_measured": window.reason,
            "sources": [
                {"source": one.source, "covers": one.covers, "idle_w": one.idle_w}
                for one in window.measured
            ],
            "idle_seconds": window.idle_seconds,
            "caution": window.caution,
        }

    def _each(self, joules: float | None) -> float | None:
        return None if joules is None or not self.steps else joules / self.steps


def step_energy(
    once: Callable[[], object],
    account: EnergyAccount,
    *,
    seconds: float = SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> StepEnergy:
    """Rest, then run a step again and again for some seconds, and return what it takes; neither without a counter.

    ``once`` runs a step and waits until the device has done it.
    """
    if not account.sources:
        return StepEnergy(account.window("no step")(), 0)
    account.measure_idle(idle_seconds, sleep)
    once()
    up_to_now, end, steps = account.window("steps"), clock() + seconds, 0
    while not steps or clock() < end:
        once()
        steps += 1
    return StepEnergy(up_to_now(), steps)
