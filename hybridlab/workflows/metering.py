"""Meters and energy of a run: live samples to the store, what is measured and what is not to the run's folder."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridlab.hardware.meters.energy import EnergyWindow
from hybridlab.hardware.meters.here import Instruments
from hybridlab.hardware.meters.meter import Meter, NotMeasured
from hybridlab.hardware.meters.sampling import Sampling
from hybridlab.training.spec import TrainSpec
from hybridlab.writing import write_whole

if TYPE_CHECKING:
    from hybridlab.runs.context import RunContext

METERS, ENERGY = "meters.json", "energy.json"
_SLICE_S = 0.2
_COVERS = "training and scoring, from the first update to the last score"


@contextmanager
def metered(context: RunContext, spec: TrainSpec, found: Instruments) -> Iterator[None]:
    """Read a run's meters while the body runs; those that end are told in the run's folder, and the run goes on."""
    guard = threading.Lock()
    ended: list[NotMeasured] = []

    def tell() -> None:
        content = found.as_dict()
        gone = {one.quantity for one in ended}
        content["measured"] = [one for one in content["measured"] if one["quantity"] not in gone]
        content["not_measured"] += [one.as_dict() for one in ended]
        _write(context.folder / METERS, {"hz": spec.meter_hz, **content})

    def on_end(meter: Meter, reason: NotMeasured) -> None:
        with guard:
            ended.append(reason)
            print(reason.sentence, flush=True)
            tell()

    tell()
    context.bring_own_meters()
    sampling = Sampling(found.meters.working, context.log_samples, hz=spec.meter_hz, on_end=on_end)
    sampling.start()
    try:
        yield
    finally:
        sampling.close()


class RunEnergy:
    """The energy of a run over all its attempts, kept in the run's folder at every checkpoint.

    What an attempt used after its last checkpoint is lost with it when the process is killed: steps and joules are
    counted up to the same moment, so joules per step stay right.
    """

    def __init__(
        self, context: RunContext, spec: TrainSpec, found: Instruments, length: int
    ) -> None:
        """Measure idle power where that was asked for, and begin; ``length`` is the positions of one sample."""
        self._file = context.folder / ENERGY
        self._spec, self._length = spec, length
        self._attempt = context.run.attempt
        kept = _read(self._file) if context.resumed else []
        self._before = [one for one in kept if one["attempt"] != self._attempt]
        if spec.idle_power_s and found.energy.sources:
            print(f"resting {spec.idle_power_s:g} s to measure idle power", flush=True)
            found.energy.measure_idle(spec.idle_power_s, lambda seconds: _rest(context, seconds))
        self._window = found.energy.window(f"attempt {self._attempt}", spec.stated_watts)
        self._from = 0

    def goes_on_from(self, step: int) -> None:
        """Note the step that this attempt goes on from."""
        self._from = step

    def goes_back(self, steps: int) -> None:
        """Count steps that are made once more: they used energy too."""
        self._from -= max(0, steps)

    def keep(self, step: int) -> list[dict[str, Any]]:
        """Write what was used up to a step, and return it attempt by attempt."""
        window = self._window()
        mine = {
            "attempt": self._attempt,
            "from_step": self._from,
            "to_step": step,
            **window.as_dict(),
            "reason": window.reason,
        }
        listed = [*self._before, mine]
        _write(self._file, {"attempts": listed})
        return listed

    def result(self, step: int) -> dict[str, Any]:
        """Return the energy of the whole run, with what one step, sample and token took; null where not measured."""
        return total(self.keep(step), self._spec.batch, self._length)


def total(attempts: list[dict[str, Any]], batch: int, length: int) -> dict[str, Any]:
    """Add attempts up: measured joules, the same without idle power, and the modelled ones, each in its own place.

    A figure that one of the attempts lacks is null as a whole, with ``not_measured`` saying why.
    """
    steps = sum(one["to_step"] - one["from_step"] for one in attempts)
    reasons = [one["reason"] for one in attempts if one["reason"]]
    joules = _sum([one["joules"] for one in attempts])
    net = _sum([one["net_joules"] for one in attempts])
    modelled = _sum([(one["modelled"] or {}).get("joules") for one in attempts])
    last = attempts[-1]
    absent = [item for one in attempts for item in one["not_measured"]]
    return {
        "covers": _COVERS,
        "seconds": round(sum(one["seconds"] for one in attempts), 3),
        "steps": steps,
        "samples": steps * batch,
        "tokens": steps * batch * length,
        "joules": joules,
        "net_joules": net,
        **_shares(joules, steps, batch, length),
        "not_measured": "; ".join(dict.fromkeys(reasons)),
        "missing": [dict(item) for item in dict.fromkeys(tuple(one.items()) for one in absent)],
        "sources": [
            {name: one[name] for name in ("source", "covers", "idle_w")} for one in last["measured"]
        ],
        "idle_seconds": last["idle_seconds"],
        "caution": last["caution"],
        "modelled": None
        if modelled is None
        else {
            "label": last["modelled"]["label"],
            "stated_w": last["modelled"]["stated_w"],
            "joules": modelled,
            **_shares(modelled, steps, batch, length),
        },
    }


def _shares(joules: float | None, steps: int, batch: int, length: int) -> dict[str, float | None]:
    counts = {"step": steps, "sample": steps * batch, "token": steps * batch * length}
    return {
        f"joules_per_{name}": joules / count if joules is not None and count else None
        for name, count in counts.items()
    }


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return math.fsum(known) if known and len(known) == len(parts) else None


def _rest(context: RunContext, seconds: float) -> None:
    """Wait, but not when the run is to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and context.stop_requested() is None:
        time.sleep(min(_SLICE_S, left))


def _read(file: Path) -> list[dict[str, Any]]:
    """Return the attempts kept in a file; one that is missing or damaged holds none."""
    try:
        attempts = json.loads(file.read_text(encoding="utf-8"))["attempts"]
        wanted = {"attempt", "from_step", "to_step", "reason", *EnergyWindow.__annotations__}
        return [one for one in attempts if wanted <= set(one)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Replace a small file whole; one that cannot be written is not worth the run."""
    try:
        write_whole(file, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        print(f"{file.name} cannot be written: {error}", flush=True)
