"""The speed that predictions assume: this machine's kept ceilings, else a quick measurement."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

from hybridlab.hardware import ceilings
from hybridlab.hardware.ceilings import Ceilings
from hybridlab.hardware.devices import called, choose
from hybridlab.hardware.published import published
from hybridlab.hardware.roofline import Roofline
from hybridlab.runs.home import home
from hybridlab.runs.lock import locked

_QUICK_SECONDS_EACH = 0.02
_QUICK_HOLDS_S = 12 * 3600.0
"""A quick measurement suffers from whatever else ran at that moment, so it is not kept for ever."""


def speed_of(device: str = "cpu") -> tuple[str, Roofline | None]:
    """Return what a device is called and its speed: measured once and kept, or published where it is not here.

    The speed of the CPU is None: ``predict`` knows it by itself. ``device`` is as torch calls it, ``auto``, or a name
    from the table of published peaks such as ``H100``.

    Raises:
        DeviceError: it is not here, and not in the table.
    """
    if (peak := published(device)) is not None:
        device = called(peak) or ""
        if not device:
            return peak.title, Roofline.of_published(peak)
    chosen = choose(device)
    if chosen.type == "cpu":
        return "cpu", None
    return str(chosen), Roofline.of(ceilings.ceilings(home(), str(chosen)))


@functools.cache
def this_cpu(threads: int = 1) -> Roofline:
    """Return the roofline of this CPU with a number of threads, measured quickly where none is kept.

    All processes of a home share a quick measurement, so that their predictions can be compared. ``hybridlab doctor``
    measures more carefully and keeps the result for good.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kept = ceilings.load(home(), "cpu", threads)
        return Roofline.of(kept or _quick(threads))
    finally:
        torch.set_num_threads(before)


def _quick(threads: int) -> Ceilings:
    """Return the quick measurement that another process has just made, or make it."""
    folder = home() / "cache"
    with _alone():
        known = ceilings.load(folder, "cpu", threads)
        if known is None or not 0 <= time.time() - known.measured_at < _QUICK_HOLDS_S:
            known = ceilings.measure("cpu", seconds_each=_QUICK_SECONDS_EACH)
            ceilings.keep(folder, known)
    return known


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes from measuring meanwhile, where the folder can be written."""
    lock = home() / "cache" / "measuring.lock"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(lock))
        yield
