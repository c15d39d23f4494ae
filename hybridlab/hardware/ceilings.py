"""This machine's measured ceilings: arithmetic per precision and bandwidth per working set, kept between starts."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridlab.hardware.devices import choose, devices

if TYPE_CHECKING:
    import torch

_PRECISIONS = ("float32", "bfloat16", "float16")
_WORKING_SETS = (256 * 1024, 4 * 1024**2, 32 * 1024**2, 256 * 1024**2)
_SECONDS_EACH = 0.4
_FEWEST = 3
_SMALL_CALLS = 500
_FILE = "ceilings.json"


@dataclass(frozen=True)
class Bandwidth:
    """Bytes read and written per second while streaming over a working set of so many bytes."""

    working_set_bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Ceilings:
    """What one device reached with a number of threads: the best of several tries, so a lower bound of the truth.

    ``flops_per_s`` is of square matrix products, by precision; ``call_s`` is what an operator costs however little it
    does; ``seconds`` is how long measuring took; ``measured_at`` is seconds since 1970.
    """

    device: str
    title: str
    threads: int
    torch_version: str
    flops_per_s: dict[str, float]
    bandwidths: tuple[Bandwidth, ...]
    call_s: float
    seconds: float
    measured_at: float

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of the largest working set: main memory, or an accelerator's own."""
        return self.bandwidths[-1].bytes_per_s

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return asdict(self)


def fingerprint(device: str, threads: int) -> str:
    """Return what a measurement depends on: machine, device, threads and torch build, as 16 hexadecimal digits."""
    import torch

    known = {found.name: found.title for found in devices()}
    parts = [device, known.get(device, ""), str(threads), torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def load(folder: Path, device: str = "auto", threads: int | None = None) -> Ceilings | None:
    """Return the ceilings kept in a folder for this machine, device and number of threads, or None."""
    import torch

    name = str(choose(device))
    return _read(folder / _FILE).get(fingerprint(name, threads or torch.get_num_threads()))


def ceilings(folder: Path, device: str = "auto", *, again: bool = False) -> Ceilings:
    """Return the kept ceilings of a device, measured now (in less than ten seconds) where there are none.

    Raises:
        DeviceError: there is no such device.
    """
    known = None if again else load(folder, device)
    if known is None:
        known = measure(device)
        keep(folder, known)
    return known


def keep(folder: Path, measured: Ceilings) -> None:
    """Keep a measurement in a folder for ``load``; a folder that cannot be written only costs the next start time."""
    _keep(folder / _FILE, fingerprint(measured.device, measured.threads), measured)


def measure(device: str = "auto", *, seconds_each: float = _SECONDS_EACH) -> Ceilings:
    """Measure a device with torch's present number of threads; other work lowers what it finds.

    ``seconds_each`` is the time for each of the eight figures; a twentieth of the default gives a
    first idea in a second.

    Raises:
        DeviceError: there is no such device.
    """
    import torch

    started = time.perf_counter()
    chosen = choose(device)
    titles = {found.name: found.title for found in devices()}
    side = 512 if chosen.type == "cpu" else 4096
    flops = {
        precision: 2 * side**3 / _best(_product(chosen, precision, side), chosen, seconds_each)
        for precision in _PRECISIONS
    }
    bandwidths = tuple(_bandwidth(chosen, size, seconds_each) for size in _WORKING_SETS)
    return Ceilings(
        str(chosen),
        titles.get(str(chosen), str(chosen)),
        torch.get_num_threads(),
        torch.__version__,
        flops,
        bandwidths,
        _call_s(chosen, seconds_each),
        time.perf_counter() - started,
        time.time(),
    )


def _product(device: torch.device, precision: str, side: int) -> Callable[[], object]:
    import torch

    dtype = getattr(torch, precision)
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _bandwidth(device: torch.device, working_set_bytes: int, seconds_each: float) -> Bandwidth:
    import torch

    source = torch.ones(working_set_bytes // 8, device=device)
    target = torch.empty_like(source)
    seconds = _best(lambda: torch.mul(source, 2.0, out=target), device, seconds_each)
    return Bandwidth(working_set_bytes, 2 * source.numel() * source.element_size() / seconds)


def _call_s(device: torch.device, seconds_each: float) -> float:
    import torch

    tiny, out = torch.ones(8, device=device), torch.ones(8, device=device)

    def calls() -> None:
        for _ in range(_SMALL_CALLS):
            torch.add(tiny, 1.0, out=out)

    return _best(calls, device, seconds_each) / _SMALL_CALLS


def _best(work: Callable[[], object], device: torch.device, seconds_each: float) -> float:
    """Return the shortest of the tries that fit into the time for one figure, in seconds, the first one left out."""
    import torch

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    first = once()
    best, tries, end = first, 0, time.perf_counter() + seconds_each
    while tries < _FEWEST or time.perf_counter() < end:
        if tries and first > 2 * seconds_each:
            break
        best, tries = min(best, once()), tries + 1
    return best


def _read(file: Path) -> dict[str, Ceilings]:
    """Return what a file holds; one that is missing, damaged or of another version holds nothing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            key: Ceilings(
                **{**entry, "bandwidths": tuple(Bandwidth(**b) for b in entry["bandwidths"])}
            )
            for key, entry in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _keep(file: Path, key: str, measured: Ceilings) -> None:
    """Add a measurement to the file, replaced whole; a folder that cannot be written only costs the next start time."""
    content = {name: item.as_dict() for name, item in _read(file).items()} | {
        key: measured.as_dict()
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, delete=False
        ) as draft:
            json.dump(content, draft)
            draft.flush()
            os.fsync(draft.fileno())
        Path(draft.name).replace(file)
    except OSError:
        return
