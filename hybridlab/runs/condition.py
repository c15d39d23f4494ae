"""Facts about this home's runs, for ``hybridlab doctor``."""

from __future__ import annotations

import json
import shutil
from typing import Any

from hybridlab.runs.home import home, prepare_home
from hybridlab.runs.lock import is_locked
from hybridlab.runs.slots import capacity
from hybridlab.runs.store import open_store
from hybridlab.runs.supervisor import LOCK_NAME


def facts() -> dict[str, Any]:
    """Return where runs live and how they stand, as plain JSON; the store's address without its password.

    Keys: home, free_bytes (on its disk), store, schema_version, runs (count by state), supervisor_alive,
    supervisor_pid, cores, slots, threads_per_run, devices.

    Raises:
        StoreError: the home folder or the store cannot be opened.
        RunError: ``HYBRIDLAB_SLOTS`` is not a number of runs.
    """
    place = prepare_home()
    store = open_store()
    given = capacity()
    alive = is_locked(place / LOCK_NAME)
    return {
        "home": str(home()),
        "free_bytes": shutil.disk_usage(place).free,
        "store": store.location,
        "schema_version": store.schema_version,
        "runs": {str(state): count for state, count in store.count_by_state().items()},
        "supervisor_alive": alive,
        "supervisor_pid": _supervisor_pid() if alive else None,
        "cores": given.cores,
        "slots": given.slots,
        "threads_per_run": given.share,
        "devices": list(given.devices),
    }


def _supervisor_pid() -> int | None:
    try:
        return int(json.loads((home() / LOCK_NAME).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
