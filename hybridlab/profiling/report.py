"""Every table that a picture of a profile needs, and its findings: one set for page, command line and notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hybridlab.hardware import ceilings as hardware
from hybridlab.hardware.caches import Cache, cpu_caches, device_caches
from hybridlab.hardware.ceilings import Ceilings
from hybridlab.profiling import memory_tables, work_tables
from hybridlab.profiling.findings import Finding, findings
from hybridlab.profiling.record import Profile
from hybridlab.runs.home import home
from hybridlab.trace.fusion import fusable
from hybridlab.trace.repeated import dead, repeated
from hybridlab.trace.reuse import reuse

CPU = "cpu"


@dataclass(frozen=True)
class Report:
    """The tables of a profile by name, and what they say in sentences, the weightiest first."""

    tables: Mapping[str, pa.Table]
    findings: tuple[Finding, ...]

    def save(self, folder: Path) -> None:
        """Write each table as ``NAME.parquet`` into a folder, replaced whole; the findings are one of them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in {**self.tables, "findings": self._sentences()}.items():
            draft = folder / f".{name}.parquet.tmp"
            pq.write_table(table, draft, compression="zstd")
            draft.replace(folder / f"{name}.parquet")

    def _sentences(self) -> pa.Table:
        rows = [
            item.as_dict() | {"evidence": json.dumps(dict(item.evidence))} for item in self.findings
        ]
        return pa.Table.from_pylist(rows, _FINDINGS)


_FINDINGS = pa.schema(
    [
        ("sentence", pa.string()),
        ("share", pa.float64()),
        ("severity", pa.string()),
        ("components", pa.list_(pa.string())),
        ("view", pa.string()),
        ("page", pa.string()),
        ("evidence", pa.string()),
    ]
)


def report(
    profile: Profile,
    caches: Sequence[Cache] | None = None,
    ceilings: Ceilings | None = None,
) -> Report:
    """Return the tables and findings of a profile.

    ``caches`` and ``ceilings`` are those of the device that was profiled; without them this machine's own are taken, as
    far as they are known: a CPU's are measured quickly where they are not.
    """
    if caches is None:
        caches = _caches(profile.device)
    if ceilings is None:
        ceilings = _ceilings(profile.device, profile.threads)
    stream = profile.stream
    far = reuse(stream, [(cache.level, cache.size_bytes) for cache in caches])
    tables = {
        "components": work_tables.component_table(profile),
        "ceilings": work_tables.ceiling_table(ceilings),
        "roofline": work_tables.roofline_table(profile, ceilings),
        "flame": work_tables.flame_table(stream),
        "operators": work_tables.operator_table(stream),
        "kernels": work_tables.kernel_table(stream),
        "repeated": work_tables.wasted_table(repeated(stream)),
        "dead": work_tables.wasted_table(
            [item for item in dead(stream) if item.row < len(stream) - 1]  # the last is the output
        ),
        "fusable": work_tables.fusable_table(fusable(stream)),
        "live": memory_tables.live_table(profile),
        "memory": memory_tables.allocation_table(profile),
        "at_peak": memory_tables.peak_table(profile),
        **memory_tables.raster_tables(stream),
        "reuse": memory_tables.reuse_table(far),
        "levels": memory_tables.level_table(far),
        "caches": memory_tables.cache_table(caches),
        "hand_overs": memory_tables.hand_over_table(stream),
        "kept": memory_tables.kept_table(stream),
    }
    return Report(tables, findings(profile, tables))


def _caches(device: str) -> tuple[Cache, ...]:
    if device == CPU:
        return cpu_caches()
    import torch

    return device_caches(torch.device(device))


def _ceilings(device: str, threads: int) -> Ceilings | None:
    """Return what is kept for a device; a CPU without any is measured quickly, as its predictions are."""
    known = hardware.load(home(), device, threads)
    if known is None and device == CPU:
        from hybridlab.trace.machine import this_cpu

        this_cpu(threads)
        known = hardware.load(home() / "cache", device, threads)
    return known
