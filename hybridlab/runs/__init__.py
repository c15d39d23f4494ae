"""Runs: records, store, supervisor, workers and leases; free of torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridlab.runs.condition import facts
    from hybridlab.runs.folder import archive, read_log
    from hybridlab.runs.launcher import cancel, delete, ensure_supervisor, resume, submit, wait
    from hybridlab.runs.record import Run, RunState
    from hybridlab.runs.store import Store, open_store

_HOMES = {
    "facts": "condition",
    "archive": "folder",
    "read_log": "folder",
    "cancel": "launcher",
    "delete": "launcher",
    "ensure_supervisor": "launcher",
    "resume": "launcher",
    "submit": "launcher",
    "wait": "launcher",
    "Run": "record",
    "RunState": "record",
    "Store": "store",
    "open_store": "store",
}

__all__ = [
    "Run",
    "RunState",
    "Store",
    "archive",
    "cancel",
    "delete",
    "ensure_supervisor",
    "facts",
    "open_store",
    "read_log",
    "resume",
    "submit",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that the home folder can be asked about without the database."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
