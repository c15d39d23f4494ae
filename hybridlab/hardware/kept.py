"""What was measured on machines, kept as JSON: a file in the home's cache, an entry a machine. Free of torch."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from hybridlab.writing import write_whole


def entries(file: Path) -> dict[str, Any]:
    """Return what a file holds, by machine; one that is missing or damaged holds nothing, and is measured anew."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def put(file: Path, machine: str, entry: Any) -> None:
    """Put a machine's entry into the file; a folder that cannot be written only costs the next measuring."""
    content = entries(file) | {machine: entry}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(content))
