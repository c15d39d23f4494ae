"""The energy counters of processors (RAPL) as Linux shows them.

Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

from pathlib import Path

from hybridlab.hardware.meters.energy import Counter
from hybridlab.hardware.meters.meter import NotMeasured, why

_SYSTEM = Path("/sys/class/powercap")
_ENERGY = "energy of the processor"


def rapl_counters(system: Path = _SYSTEM) -> tuple[tuple[Counter, ...], tuple[NotMeasured, ...]]:
    """Return a counter for each processor package and its memory, and why there is none.

    Cores and graphics are parts of a package and would be counted twice; ``psys``, the whole platform, holds both.
    """
    counters, absent = [], []
    for place in sorted(system.glob("*-rapl:*")):
        try:
            name = (place / "name").read_text(encoding="ascii").strip()
            if not name.startswith(("package", "dram")):
                continue
            source = _source(name, place)
            wraps_j = _microjoules(place / "max_energy_range_uj") / 1e6
            _microjoules(place / "energy_uj")
        except OSError as error:
            absent.append(NotMeasured(_ENERGY, _reason(place, error)))
        except ValueError as error:
            absent.append(NotMeasured(_ENERGY, f"{place}: {why(error)}"))
        else:
            counters.append(_counter(source, place / "energy_uj", wraps_j))
    if not counters and not absent:
        reason = (
            f"there is no energy counter (RAPL) under {system}; virtual machines mostly have none"
        )
        absent.append(NotMeasured(_ENERGY, reason))
    return tuple(counters), tuple(absent)


def _source(name: str, place: Path) -> str:
    """Name a domain: every package of a machine with several has its own ``dram``."""
    if name.startswith("package"):
        return f"RAPL {name}"
    return f"RAPL package-{place.name.split(':')[1]} {name}"


def _counter(source: str, file: Path, wraps_j: float) -> Counter:
    what = "the memory of a processor" if source.endswith("dram") else "a whole processor package"
    return Counter(
        source,
        f"{what}, other processes included",
        lambda: _microjoules(file) / 1e6,
        wraps_j,
    )


def _microjoules(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _reason(place: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"{place}/energy_uj may be read by root only; "
            f"`sudo chmod o+r {place}/energy_uj` lets everyone until the next start"
        )
    return f"{place}: {(error.strerror or why(error)).lower()}"
