"""What changed on the canvas since the design was saved, or opened from a preset."""

from __future__ import annotations

import functools

from hybridlab.architecture.compare import compare
from hybridlab.ui import state


@functools.lru_cache(maxsize=64)
def changed(saved: str | None, text: str) -> dict[str, str]:
    """Return what is new or different, in words, by a node's path of ids; empty where nothing was saved."""
    if saved is None or saved == text:
        return {}
    before, after = state.parsed(saved)[0], state.parsed(text)[0]
    if before is None or after is None:
        return {}
    return {
        change.name: f"{change.what}: {change.words()}"
        for change in compare(before, after).nodes
        if change.after is not None
    }
