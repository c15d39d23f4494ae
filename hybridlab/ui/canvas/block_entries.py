"""Saved blocks as entries of the canvas's palette, beside the components."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybridlab.architecture import blocks
from hybridlab.architecture.document import parse, plain, read_yaml
from hybridlab.errors import HybridLabError

KIND = "block"
_MOST = 50
"""So many blocks are in the palette; they travel with every answer to an edit."""
_NAMED = 4


def block_entries() -> list[dict[str, Any]]:
    """Return the saved blocks that can be read, by name, as the palette's components are told, each with its node."""
    found = []
    for file in blocks.files()[:_MOST]:
        try:
            state = file.stat()
            entry = _entry(file, state.st_mtime_ns, state.st_size)
        except (OSError, UnicodeDecodeError, HybridLabError):  # gone, or broken by hand
            continue
        if entry is not None:
            found.append(entry)
    return found


@functools.lru_cache(maxsize=2 * _MOST)
def _entry(file: Path, changed_ns: int, size: int) -> dict[str, Any] | None:
    """Read a file as it is at one time; None where it does not hold one node."""
    text = file.read_text(encoding="utf-8")
    block = parse(text)[0]
    if block is None or len(block.nodes) != 1:
        return None
    node = plain(read_yaml(text))[0]["nodes"][0]
    return {
        "name": f"{KIND}:{file.stem}",
        "kind": KIND,
        "title": block.name,
        "summary": _summary(node),
        "cost": "",
        "paper": "",
        "accepts": ["sequence"],
        "min_inputs": 1,
        "max_inputs": 1,
        "params": {},
        "node": node,
    }


def _summary(node: Mapping[str, Any]) -> str:
    """Say what a block holds, the components it has most of first."""
    uses = Counter(_uses(node))
    names = [f"{count} {use}" if count > 1 else use for use, count in uses.most_common(_NAMED)]
    more = ", …" if len(uses) > _NAMED else ""
    repeat = node.get("repeat", 1)
    return f"{', '.join(names)}{more}{f'; × {repeat}' if repeat != 1 else ''}"


def _uses(node: Mapping[str, Any]) -> Iterator[str]:
    if "use" in node:
        yield str(node["use"])
    for child in node.get("nodes") or ():
        yield from _uses(child)
