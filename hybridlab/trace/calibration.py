"""What components really take on this machine, against the roofline: two factors for each, measured once and kept.

A component's time is ``overhead`` times its operators at the cost of a call, plus ``work`` times what the roofline says
of computing and moving. The first stands for what eager execution costs around an operator (Python, autograd, views),
the second for how far its kernels stay below the ceilings.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from hybridlab.architecture.infer import SlotPlan
from hybridlab.hardware.ceilings import fingerprint
from hybridlab.hardware.kept import entries, put
from hybridlab.hardware.roofline import Roofline
from hybridlab.runs.home import home
from hybridlab.trace.component_cost import Traced

_FILE = "calibration-2.json"
"""The second form: times of the first were those of the clock, and so of whoever else was at work."""


@dataclass(frozen=True)
class Factors:
    """How much longer operators take than a bare call, and work than the roofline says."""

    overhead: float = 1.0
    work: float = 1.0


@dataclass(frozen=True)
class Calibration:
    """The factors of components on one machine with one number of threads.

    ``components`` are by component, parameters and context; ``uses`` the medians by component, for those that were not
    measured with just these parameters. ``update_s`` is a step's update as (seconds, seconds a weight tensor, seconds a
    byte of weights); ``loss_s`` a step's loss as (seconds, seconds a byte of logits). ``company`` is how much longer
    components take one after the other in a network than each alone in a loop, where its code and numbers stay in the
    caches. ``doubtful`` names what was measured while others used the machine, by component or field, with the time of
    day in seconds.
    """

    components: Mapping[str, Factors] = field(default_factory=dict)
    uses: Mapping[str, Factors] = field(default_factory=dict)
    update_s: tuple[float, float, float] | None = None
    loss_s: tuple[float, float] | None = None
    company: float | None = None
    doubtful: Mapping[str, float] = field(default_factory=dict)

    def factors(self, plan: SlotPlan) -> Factors:
        """Return what fits best: this very component, one of its kind with other parameters, or the median of all."""
        known = self.components.get(component_key(plan)) or self.uses.get(plan.info.name)
        if known is not None:
            return known
        every = list(self.uses.values())
        if not every:
            return Factors()
        return Factors(median(f.overhead for f in every), median(f.work for f in every))

    def seconds(self, plan: SlotPlan, traced: Traced, roofline: Roofline) -> float:
        """Return the seconds of one forward and backward of a component in its place."""
        calls, work = parts(traced, roofline)
        factors = self.factors(plan)
        return (self.company or 1.0) * (factors.overhead * calls + factors.work * work)

    def measured(self, names: Collection[str], at: float | None) -> Calibration:
        """Return the calibration with some of it told to be sound, or doubtful since a time of day."""
        rest = {name: since for name, since in self.doubtful.items() if name not in names}
        return replace(self, doubtful=rest | ({} if at is None else dict.fromkeys(names, at)))

    def with_components(self, found: Mapping[str, tuple[str, Factors]]) -> Calibration:
        """Return the calibration with more components, by their keys: (name, factors)."""
        components = {**self.components, **{key: factors for key, (_, factors) in found.items()}}
        by_use: dict[str, list[Factors]] = {}
        for use, factors in found.values():
            by_use.setdefault(use, []).append(factors)
        uses = {
            use: Factors(median(f.overhead for f in mine), median(f.work for f in mine))
            for use, mine in by_use.items()
        }
        return replace(self, components=components, uses={**self.uses, **uses})


def component_key(plan: SlotPlan) -> str:
    """Return what a component's factors depend on, as 16 hexadecimal digits."""
    said = [plan.info.name, plan.params.model_dump_json(), repr(plan.context), plan.residual]
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def parts(traced: Traced, roofline: Roofline) -> tuple[float, float]:
    """Return the seconds of a component's calls, and of its computing and moving, as the roofline says."""
    calls = work = 0.0
    for side in (traced.forward, traced.backward):
        for row in side.rows:
            each = roofline.seconds(row.flops, row.bytes_read + row.bytes_written)
            calls += roofline.overhead_s
            work += each - roofline.overhead_s
    return calls, work


def fit(points: Sequence[tuple[float, float, float]]) -> Factors:
    """Return the factors that come closest, relatively, to (seconds of calls, of work, measured); neither is negative.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("a fit needs at least one point")
    scaled = [(calls / took, work / took) for calls, work, took in points]
    aa = math.fsum(a * a for a, _ in scaled)
    bb = math.fsum(b * b for _, b in scaled)
    ab = math.fsum(a * b for a, b in scaled)
    a1, b1 = math.fsum(a for a, _ in scaled), math.fsum(b for _, b in scaled)
    determinant = aa * bb - ab * ab
    if determinant > 1e-6 * aa * bb:
        overhead = (a1 * bb - b1 * ab) / determinant
        work = (b1 * aa - a1 * ab) / determinant
        if overhead >= 0 and work >= 0:
            return Factors(overhead, work)
    alone = [Factors(a1 / aa if aa else 0.0, 0.0), Factors(0.0, b1 / bb if bb else 0.0)]
    return min(
        alone, key=lambda f: math.fsum((f.overhead * a + f.work * b - 1) ** 2 for a, b in scaled)
    )


def kept(threads: int) -> Calibration:
    """Return what is kept in the home for this machine's CPU and a number of threads; nothing where nothing is."""
    file = home() / "cache" / _FILE
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return Calibration()
    return _load(file, stamp, threads)


def keep(calibration: Calibration, threads: int) -> None:
    """Keep a calibration; a folder that cannot be written only costs the next measuring."""
    put(home() / "cache" / _FILE, fingerprint("cpu", threads), asdict(calibration))


@functools.lru_cache(maxsize=8)
def _load(file: Path, stamp: int, threads: int) -> Calibration:
    try:
        entry = entries(file)[fingerprint("cpu", threads)]
        update, loss = entry["update_s"], entry["loss_s"]
        return Calibration(
            {key: Factors(**value) for key, value in entry["components"].items()},
            {key: Factors(**value) for key, value in entry["uses"].items()},
            (float(update[0]), float(update[1]), float(update[2])) if update else None,
            (float(loss[0]), float(loss[1])) if loss else None,
            float(entry["company"]) if entry.get("company") else None,
            {str(name): float(since) for name, since in entry.get("doubtful", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Calibration()
