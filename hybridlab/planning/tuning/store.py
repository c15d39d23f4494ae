"""What was measured of components on this machine, kept in a file beside its ceilings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridlab.hardware.ceilings import fingerprint
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
    """Return what was measured on this machine with a device and a number of threads, by the key of its size."""
    return _read(folder / FILE).get(fingerprint(device, threads), {})


def keep(folder: Path, device: str, threads: int, measured: Mapping[str, Known]) -> None:
    """Add measurements to those of this machine, and to what others add meanwhile.

    A folder that cannot be written only costs the next start time.
    """
    file, key = folder / FILE, fingerprint(device, threads)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(file.with_suffix(".lock")):
            content = _read(file)
            content[key] = {**content.get(key, {}), **measured}
            _write(file, content)
    except OSError:
        return


def _write(file: Path, content: Mapping[str, Mapping[str, Known]]) -> None:
    """Replace the file whole."""
    plain = {
        machine: {name: asdict(one) for name, one in entries.items()}
        for machine, entries in content.items()
    }
    draft = file.with_name(f".{file.name}.tmp")
    with draft.open("w", encoding="utf-8") as opened:
        json.dump(plain, opened)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)


def _read(file: Path) -> dict[str, dict[str, Known]]:
    """Return what a file holds; one that is missing, damaged or of another version holds nothing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            machine: {name: _entry(one) for name, one in entries.items()}
            for machine, entries in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _entry(content: Mapping[str, object]) -> Known:
    numbers = ("ratio", "low", "high", "measured_at")
    whole = all(isinstance(content[name], int | float) for name in numbers)
    if not whole or not isinstance(content["value"], int | str):
        raise ValueError("no figures")
    return Known(**content)  # type: ignore[arg-type]
