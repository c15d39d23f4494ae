"""What a profile is: the measured op stream beside the predicted one, and what they say of every component."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybridlab.profiling.medians import Median
from hybridlab.profiling.step_energy import StepEnergy
from hybridlab.runs.traces import REPORT
from hybridlab.trace.stream import OpStream

if TYPE_CHECKING:
    from hybridlab.profiling.classes import ByClass
    from hybridlab.profiling.report import Report
    from hybridlab.profiling.sizes import BySize

NAMED = ("(model)", "(loss)", "(optimiser)")
"""Work with a name that is no component's: the model's own, the loss, the update of the weights."""


@dataclass(frozen=True)
class ComponentTime:
    """One component in a mean step: milliseconds by phase (measured), its work, and what it keeps for backward.

    ``joules`` is its share by time of the step's measured energy, None where nothing measured that; ``grad_norm`` is
    of its own weights in one step, before clipping, None where it has none that are trained. ``device_ms`` is the time
    on a device of what its operators started there, None where nothing ran on one; ``ms`` is the host's.
    """

    path: str
    ms: float
    forward_ms: float
    backward_ms: float
    optimiser_ms: float
    share: float
    operators: int
    flops: int
    bytes_read: int
    bytes_written: int
    saved_bytes: int
    predicted_ms: float | None = None
    joules: float | None = None
    grad_norm: float | None = None
    device_ms: float | None = None


@dataclass(frozen=True)
class Profile:
    """One model's step, measured and predicted.

    ``step_ms_measured`` is of steps without the profiler; the shares of components are of ``profiled_ms``, the steps
    under it. ``attributed`` is the share of those that has a name, ``in_components`` the share that stands in
    components alone, without the model's own code, the loss and the update. ``memory`` has a row for each allocation
    (us, bytes) and free (negative) of the last profiled step; ``joined`` is the share of its operators that have a
    measured time, ``kernels_joined`` that of the device's time which belongs to one of them, None where nothing ran on
    one. ``allocator`` is what torch's allocator held of the device in bytes, or ``not_measured``: why nobody knows.
    ``by_input`` and ``by_size`` are there where the network also ran on classes and sizes of input.
    """

    name: str
    components: tuple[ComponentTime, ...]
    attributed: float
    in_components: float
    unattributed_ms: float
    profiled_ms: Median
    step_ms_measured: Median
    step_ms_predicted: float | None
    peak_bytes_measured: int
    peak_bytes_predicted: int | None
    stream: OpStream
    predicted: OpStream | None
    memory: pa.Table
    joined: float
    device: str
    threads: int
    torch_version: str
    trace: str | None = None
    notes: tuple[str, ...] = ()
    energy: StepEnergy | None = None
    by_input: ByClass | None = None
    by_size: BySize | None = None
    kernels_joined: float | None = None
    allocator: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON, without the streams."""
        more = {"by_input": self.by_input, "by_size": self.by_size}
        return {
            "name": self.name,
            "attributed": self.attributed,
            "in_components": self.in_components,
            "unattributed_ms": self.unattributed_ms,
            "peak_bytes": {
                "predicted": self.peak_bytes_predicted,
                "measured": self.peak_bytes_measured,
            },
            "step_ms": {
                "predicted": self.step_ms_predicted,
                "measured": self.step_ms_measured.value,
                "interval": [self.step_ms_measured.low, self.step_ms_measured.high],
                "confidence": self.step_ms_measured.confidence,
                "steps": self.step_ms_measured.n,
                "profiled": self.profiled_ms.value,
            },
            "components": [asdict(component) for component in self.components],
            "energy": self.energy.as_dict() if self.energy is not None else {},
            "joined": self.joined,
            "kernels_joined": self.kernels_joined,
            "allocator": dict(self.allocator),
            "device": self.device,
            "threads": self.threads,
            "torch_version": self.torch_version,
            "trace": self.trace,
            "notes": list(self.notes),
            **{name: one.as_dict() for name, one in more.items() if one is not None},
        }

    def report(self) -> Report:
        """Return the tables behind every picture of it, and what they say in sentences; it takes under a second."""
        return self._report

    @cached_property
    def _report(self) -> Report:
        from hybridlab.profiling.report import report

        return report(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all of it into a folder, as the Profile page reads it.

        The figures are ``profile.json``, the streams and the allocations Parquet; the tables behind the pictures lie
        under ``report``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part in (self.report(), self.by_input, self.by_size):
            if part is not None:
                part.save(folder / REPORT)
        self.stream.save(folder / "measured")
        if self.predicted is not None:
            self.predicted.save(folder / "predicted")
        pq.write_table(self.memory, folder / "memory.parquet")
        draft = folder / ".profile.json.tmp"
        draft.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / "profile.json")

    def __repr__(self) -> str:
        """Write the outcome in one line."""
        step, peak = self.step_ms_measured, self.peak_bytes_measured
        return (
            f"{self.name}: {step.value:.2f} ms a step ({step.low:.2f} to {step.high:.2f}), "
            f"{peak / 2**20:.1f} MiB at the peak, {100 * self.attributed:.1f} % attributed"
        )
