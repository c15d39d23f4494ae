"""What was measured of components on this machine, kept in a file beside its ceilings."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridlab.hardware.ceilings import fingerprint
from hybridlab.hardware.kept import entries, put
from hybridlab.runs.lock import locked

FILE = "tuning.json"


@dataclass(frozen=True)
class Known:
    """The fastest way of a component at a size: ``ratio`` is its time over that of its design.

    Where nothing was faster, ``value`` is that of the design and the ratio is 1.
    """

    value: int | str
    ratio: float
    low: float
    high: float
    measured_at: float
    """Seconds since 1970."""


def kept(folder: Path, device: str, threads: int) -> dict[str, Known]:
    """Return what was measured on this machine with a device and a number of threads, by the key of its size.

    An entry that is damaged or of another version is measured anew, and with it all of this machine.
    """
    found = entries(folder / FILE).get(fingerprint(device, threads))
    try:
        return {name: _entry(one) for name, one in (found or {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def keep(folder: Path, device: str, threads: int, measured: Mapping[str, Known]) -> None:
    """Add measurements to those of this machine, and to what others add meanwhile.

    A folder that cannot be written only costs the next start time.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with locked((folder / FILE).with_suffix(".lock")):
            known = {**kept(folder, device, threads), **measured}
            plain = {name: asdict(one) for name, one in known.items()}
            put(folder / FILE, fingerprint(device, threads), plain)


def _entry(content: Mapping[str, object]) -> Known:
    numbers = ("ratio", "low", "high", "measured_at")
    whole = all(isinstance(content[name], int | float) for name in numbers)
    if not whole or not isinstance(content["value"], int | str):
        raise ValueError("no figures")
    return Known(**content)  # type: ignore[arg-type]
