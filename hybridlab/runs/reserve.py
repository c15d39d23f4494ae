"""A little room kept on the disk, so that a full disk can still be told: the store needs some pages to say so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

RESERVE_NAME = "reserve"
RESERVE_BYTES = 1 << 18


def keep_reserve(home: Path) -> None:
    """Put the reserve aside if it is missing and there is plenty of room for it."""
    path = home / RESERVE_NAME
    try:
        if path.exists() or shutil.disk_usage(home).free < 3 * RESERVE_BYTES:
            return
        path.write_bytes(os.urandom(RESERVE_BYTES))  # what cannot be compressed takes its room
    except OSError:
        spend_reserve(home)


def spend_reserve(home: Path) -> bool:
    """Give the reserve back to the disk; say whether there was one."""
    try:
        (home / RESERVE_NAME).unlink()
    except OSError:
        return False
    return True
