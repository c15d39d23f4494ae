"""What stands beside the events of a trace: devices, rank, world; read leniently, since it differs by version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hybridlab.profiling.reading.trace import DeviceFacts

_ANY = msgspec.json.Decoder()


def devices(fields: Mapping[str, msgspec.Raw]) -> tuple[DeviceFacts, ...]:
    """Return the devices that the trace lists."""
    entries = _read(fields, "deviceProperties")
    found = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            capability = f"{_count(entry, 'computeMajor')}.{_count(entry, 'computeMinor')}"
            found.append(
                DeviceFacts(
                    _count(entry, "id"),
                    str(entry.get("name", "")),
                    _count(entry, "totalGlobalMem"),
                    _count(entry, "numSms"),
                    capability,
                )
            )
    return tuple(found)


def rank_and_world(fields: Mapping[str, msgspec.Raw]) -> tuple[int | None, int | None]:
    """Return which process of how many wrote the trace, where it says so."""
    entry = _read(fields, "distributedInfo")
    if not isinstance(entry, dict):
        return None, None
    rank, world = entry.get("rank"), entry.get("world_size")
    return (rank if isinstance(rank, int) else None, world if isinstance(world, int) else None)


def schema(fields: Mapping[str, msgspec.Raw]) -> int | None:
    """Return the version of the format."""
    value = _read(fields, "schemaVersion")
    return value if isinstance(value, int) else None


def _read(fields: Mapping[str, msgspec.Raw], name: str) -> Any:
    raw = fields.get(name)
    return None if raw is None else _ANY.decode(raw)


def _count(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    return value if isinstance(value, int) else 0
