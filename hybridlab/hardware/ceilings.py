"""This machine's measured ceilings: arithmetic per precision and bandwidth per memory level, kept between starts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridlab.hardware.caches import working_sets
from hybridlab.hardware.devices import choose, devices
from hybridlab.hardware.kept import entries, put

if TYPE_CHECKING:
    import torch

_PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_FORM = "2"
"""Changes when other figures are measured, so that those kept before are measured anew."""
_SECONDS_EACH = 0.4
_FEWEST = 3
_BYTES_A_TRY = 16 * 1024**2
"""So much is moved in one try: small working sets are gone over many times."""
_MOST_CALLS = 500
_RESOLVED = 0.1
"""Share of a call's time that moving must take to be told from the cost of calling."""
_FILE = "ceilings.json"


@dataclass(frozen=True)
class Bandwidth:
    """Bytes read and written per second while streaming over a working set of so many bytes.

    ``level`` says where that lies: L1, L2, L3 or memory; it is empty where the system does not tell its caches.
    """

    working_set_bytes: int
    bytes_per_s: float
    level: str = ""


@dataclass(frozen=True)
class Ceilings:
    """What one device reached with a number of threads: the best of several tries, so a lower bound of the truth.

    ``flops_per_s`` is of square matrix products, by precision, and ``not_measured`` says why one is missing; ``call_s``
    is what an operator costs however little it does, and is taken off before bandwidths are told; ``seconds`` is how
    long measuring took; ``measured_at`` is seconds since 1970.
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
    not_measured: dict[str, str] = field(default_factory=dict)

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
    parts = [_FORM, device, known.get(device, ""), str(threads), torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def load(folder: Path, device: str = "auto", threads: int | None = None) -> Ceilings | None:
    """Return the ceilings kept in a folder for this machine, device and number of threads, or None."""
    import torch

    name = str(choose(device))
    key = fingerprint(name, threads or torch.get_num_threads())
    return _entry(entries(folder / _FILE).get(key))


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
    key = fingerprint(measured.device, measured.threads)
    put(folder / _FILE, key, measured.as_dict())


def measure(device: str = "auto", *, seconds_each: float = _SECONDS_EACH) -> Ceilings:
    """Measure a device with torch's present number of threads; other work lowers what it finds.

    ``seconds_each`` is the time for each of some nine figures; a twentieth of the default gives a
    first idea in a second.

    Raises:
        DeviceError: there is no such device.
    """
    import torch

    started = time.perf_counter()
    chosen = choose(device)
    titles = {found.name: found.title for found in devices()}
    side = 512 if chosen.type == "cpu" else 4096
    flops: dict[str, float] = {}
    absent: dict[str, str] = {}
    for precision in _PRECISIONS:
        try:
            seconds = _best(_product(chosen, precision, side), chosen, seconds_each)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            absent[precision] = f"torch cannot multiply it on this device: {words[0][:200]}"
        else:
            flops[precision] = 2 * side**3 / seconds
    call_s = _call_s(chosen, seconds_each)
    measured = (_bandwidth(chosen, *place, call_s, seconds_each) for place in working_sets(chosen))
    return Ceilings(
        str(chosen),
        titles.get(str(chosen), str(chosen)),
        torch.get_num_threads(),
        torch.__version__,
        flops,
        tuple(one for one in measured if one is not None),
        call_s,
        time.perf_counter() - started,
        time.time(),
        absent,
    )


def _product(device: torch.device, precision: str, side: int) -> Callable[[], object]:
    import torch

    if precision == "int8":
        left, right = (
            torch.randint(-100, 100, (side, side), device=device, dtype=torch.int8)
            for _ in range(2)
        )
        return lambda: torch._int_mm(left, right)
    dtype = getattr(torch, precision)
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _bandwidth(
    device: torch.device, level: str, working_set_bytes: int, call_s: float, seconds_each: float
) -> Bandwidth | None:
    """Measure one working set; None where moving it takes too little beside the call to be told from it."""
    import torch

    source = torch.ones(working_set_bytes // 8, device=device)
    target = torch.empty_like(source)
    calls = max(1, min(_MOST_CALLS, _BYTES_A_TRY // working_set_bytes))

    def go_over() -> None:
        for _ in range(calls):
            torch.mul(source, 2.0, out=target)

    each = _best(go_over, device, seconds_each) / calls
    if each - call_s < _RESOLVED * each:
        return None
    moved_bytes = 2 * source.numel() * source.element_size()
    return Bandwidth(working_set_bytes, moved_bytes / (each - call_s), level)


def _call_s(device: torch.device, seconds_each: float) -> float:
    import torch

    tiny, out = torch.ones(8, device=device), torch.ones(8, device=device)

    def calls() -> None:
        for _ in range(_MOST_CALLS):
            torch.add(tiny, 1.0, out=out)

    return _best(calls, device, seconds_each) / _MOST_CALLS


def _best(work: Callable[[], object], device: torch.device, seconds_each: float) -> float:
    """Return the shortest of the tries that fit into the time for one figure, in seconds, the first one left out.

    On a CPU a try counts by its processor time where that is less than the clock's, as it is on one thread while others
    keep the machine busy.
    """
    import torch

    def once() -> float:
        start, worked = time.perf_counter(), time.process_time()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
            return time.perf_counter() - start
        worked = time.process_time() - worked
        return min(time.perf_counter() - start, worked)

    first = once()
    best, tries, end = first, 0, time.perf_counter() + seconds_each
    while tries < _FEWEST or time.perf_counter() < end:
        if tries and first > 2 * seconds_each:
            break
        best, tries = min(best, once()), tries + 1
    return best


def _entry(content: Any) -> Ceilings | None:
    """Return what was kept; None where it is damaged or of another version."""
    try:
        bandwidths = tuple(Bandwidth(**one) for one in content["bandwidths"])
        return Ceilings(**{**content, "bandwidths": bandwidths})
    except (TypeError, KeyError):
        return None
