"""What ``benchmarks/mixers.py`` measured of a token mixer on this machine, in words. Free of torch."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

NOT_YET = "Not yet measured here: run `benchmarks/mixers.py`."


def measured_speed(name: str, file: Path | None) -> str:
    """Return the measured milliseconds of forward and backward at each length, with date and machine.

    Args:
        name: what designs call the mixer.
        file: what the benchmark wrote; where it is not there, or not its own, nothing was measured.
    """
    content = _read(file)
    rows = [row for row in content.get("rows", []) if isinstance(row, dict)]
    found = [row for row in rows if row.get("mixer") == name and _number(row.get("ms"))]
    if not found or file is None:
        return NOT_YET
    settings = content.get("settings", {})
    shape = ", ".join(
        f"{key} {settings[key]}"
        for key in ("batch", "width", "threads", "device")
        if key in settings
    )
    stamp = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC).date()
    date, machine = content.get("date", stamp.isoformat()), content.get("machine", "unknown")
    head = f"*Measured* {date} on {machine}, torch {content.get('torch', 'unknown')}"
    lines = [
        f"{head}: one forward and backward" + (f" ({shape})." if shape else "."),
        "",
        "| length | ms | times attention |",
        "| --- | --- | --- |",
    ]
    for row in sorted(found, key=lambda one: int(one.get("length", 0))):
        times = row.get("times_attention")
        cells = (
            f"{row.get('length', 0):,}",
            f"{row['ms']:.1f}",
            f"{times:.2f}" if _number(times) else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("rows"), list) else {}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
