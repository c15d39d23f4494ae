"""What components really take on this machine, against the roofline: two factors a direction, measured once and kept.

A component's time is ``overhead`` times its operators at the cost of a call, plus ``work`` times what the roofline says
of computing and moving. The first stands for what eager execution costs around an operator (Python, autograd, views),
the second for how far its kernels stay below the ceilings. Forward and backward have their own: Python runs in forward
alone, so that an operator costs more there.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import torch

from hybridlab.architecture.infer import SlotPlan
from hybridlab.hardware.ceilings import fingerprint
from hybridlab.hardware.kept import entries, put
from hybridlab.hardware.roofline import Roofline
from hybridlab.runs.home import home
from hybridlab.trace.component_cost import Traced
from hybridlab.trace.ops import Work

_FILE = "calibration-3.json"
"""The third form: the second knew no directions, and of components whose length is fixed no second size."""
Size = tuple[float, float, float]
"""Of one direction of a component at one size, seconds: of its calls, of its work, and measured."""


@dataclass(frozen=True)
class Factors:
    """How much longer operators take than a bare call, and work than the roofline says."""

    overhead: float = 1.0
    work: float = 1.0


@dataclass(frozen=True)
class Directions:
    """The factors of a component's forward and of its backward."""

    forward: Factors = Factors()
    backward: Factors = Factors()


@dataclass(frozen=True)
class Calibration:
    """The factors of components on one machine with one number of threads and one number format.

    ``components`` are by component, parameters and context; ``uses`` the medians by component, for those that were not
    measured with just these parameters. ``update_s`` is a step's update as (seconds, seconds a weight tensor, seconds a
    byte of weights); ``loss_s`` a step's loss as (seconds, seconds a byte of logits). ``company`` is how much longer
    forward, backward and update take in a network than alone in a loop, where code and numbers stay in the caches.
    ``doubtful`` names what was measured while others used the machine, by component or field, with the time of day in
    seconds.
    """

    components: Mapping[str, Directions] = field(default_factory=dict)
    uses: Mapping[str, Directions] = field(default_factory=dict)
    update_s: tuple[float, float, float] | None = None
    loss_s: tuple[float, float] | None = None
    company: tuple[float, float, float] | None = None
    doubtful: Mapping[str, float] = field(default_factory=dict)

    def factors(self, plan: SlotPlan) -> Directions:
        """Return what fits best: this very component, one of its kind with other parameters, or the median of all."""
        known = self.components.get(component_key(plan)) or self.uses.get(plan.info.name)
        if known is not None:
            return known
        return _middle(list(self.uses.values())) if self.uses else Directions()

    def rests_on(self, plans: Collection[SlotPlan]) -> str:
        """Say what times of these components rest on, in the words of a sentence that begins with "Times rest on"."""
        alone = sum(component_key(plan) in self.components for plan in plans)
        if not self.uses:
            return "this machine's ceilings alone, which steps do not reach: nothing was measured here yet"
        if alone == len(plans):
            return "components measured alone on this machine"
        return (
            f"components measured alone on this machine, {alone} of {len(plans)}; the others go by their kind, or by "
            "what components take in the middle"
        )

    def seconds(self, plan: SlotPlan, traced: Traced, roofline: Roofline) -> float:
        """Return the seconds of one forward and backward of a component in its place."""
        ahead, back = self.seconds_alone(plan, traced, roofline)
        longer = self.company or (1.0, 1.0, 1.0)
        return longer[0] * ahead + longer[1] * back

    def seconds_alone(
        self, plan: SlotPlan, traced: Traced, roofline: Roofline
    ) -> tuple[float, float]:
        """Return the seconds of one forward and of one backward of a component alone in a loop."""
        factors = self.factors(plan)
        sides = (factors.forward, traced.forward), (factors.backward, traced.backward)
        found = ((one, *parts(work, roofline)) for one, work in sides)
        ahead, back = (one.overhead * calls + one.work * work for one, calls, work in found)
        return ahead, back

    def update_seconds(self, tensors: int, weight_bytes: int) -> float | None:
        """Return the seconds of an update of so many weight tensors and bytes; None where none was measured."""
        if self.update_s is None:
            return None
        fixed_s, tensor_s, byte_s = self.update_s
        longer = self.company[2] if self.company else 1.0
        return longer * (fixed_s + tensor_s * tensors + byte_s * weight_bytes)

    def measured(self, names: Collection[str], at: float | None) -> Calibration:
        """Return the calibration with some of it told to be sound, or doubtful since a time of day."""
        rest = {name: since for name, since in self.doubtful.items() if name not in names}
        return replace(self, doubtful=rest | ({} if at is None else dict.fromkeys(names, at)))

    def with_components(self, found: Mapping[str, tuple[str, Directions]]) -> Calibration:
        """Return the calibration with more components, by their keys: (name, factors)."""
        components = {**self.components, **{key: factors for key, (_, factors) in found.items()}}
        by_use: dict[str, list[Directions]] = {}
        for use, factors in found.values():
            by_use.setdefault(use, []).append(factors)
        uses = {use: _middle(mine) for use, mine in by_use.items()}
        return replace(self, components=components, uses={**self.uses, **uses})


def component_key(plan: SlotPlan) -> str:
    """Return what a component's factors depend on, as 16 hexadecimal digits."""
    said = [plan.info.name, plan.params.model_dump_json(), repr(plan.context), plan.residual]
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def _middle(some: Sequence[Directions]) -> Directions:
    """Return the medians of factors."""
    sides = [one.forward for one in some], [one.backward for one in some]
    return Directions(
        *(Factors(median(f.overhead for f in mine), median(f.work for f in mine)) for mine in sides)
    )


def parts(direction: Work, roofline: Roofline) -> tuple[float, float]:
    """Return the seconds of the calls of one direction, and of its computing and moving, as the roofline says."""
    each = math.fsum(
        roofline.seconds(row.flops, row.bytes_read + row.bytes_written) for row in direction.rows
    )
    calls = roofline.overhead_s * len(direction.rows)
    return calls, max(0.0, each - calls)


def fit(points: Sequence[Size]) -> Factors:
    """Return the factors that come closest, relatively, to what was measured; neither is negative.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("a fit needs at least one point")
    points = [point for point in points if point[0] + point[1] > 0 and point[2] > 0]
    if not points:  # nothing runs in this direction
        return Factors()
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


def kept(threads: int, cast: torch.dtype | None = None) -> Calibration:
    """Return what is kept in the home for this machine's CPU and a number of threads; nothing where nothing is.

    ``cast`` is the type of autocast, None without it.
    """
    file = home() / "cache" / _FILE
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return Calibration()
    return _load(file, stamp, threads, cast)


def nearest(threads: int, cast: torch.dtype | None) -> Calibration:
    """Return what is kept for a number format; where nothing is, what is kept for float32, as nobody's very own."""
    found = kept(threads, cast)
    return found if found.uses or cast is None else replace(kept(threads), components={})


def keep(calibration: Calibration, threads: int, cast: torch.dtype | None = None) -> None:
    """Keep a calibration; a folder that cannot be written only costs the next measuring."""
    put(home() / "cache" / _FILE, _entry(threads, cast), asdict(calibration))


def _entry(threads: int, cast: torch.dtype | None) -> str:
    return fingerprint("cpu", threads) + ("" if cast is None else f" {cast}")


@functools.lru_cache(maxsize=8)
def _load(file: Path, stamp: int, threads: int, cast: torch.dtype | None) -> Calibration:
    try:
        entry = entries(file)[_entry(threads, cast)]
        update, loss, company = entry["update_s"], entry["loss_s"], entry["company"]
        return Calibration(
            {key: _directions(value) for key, value in entry["components"].items()},
            {key: _directions(value) for key, value in entry["uses"].items()},
            (float(update[0]), float(update[1]), float(update[2])) if update else None,
            (float(loss[0]), float(loss[1])) if loss else None,
            (float(company[0]), float(company[1]), float(company[2])) if company else None,
            {str(name): float(since) for name, since in entry.get("doubtful", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Calibration()


def _directions(value: Mapping[str, Mapping[str, float]]) -> Directions:
    return Directions(Factors(**value["forward"]), Factors(**value["backward"]))
