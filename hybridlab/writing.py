"""Files that are there whole or not at all: written under another name beside, synced, renamed. Free of torch."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace a file whole: nobody ever reads half of it, and where writing fails the one before stays.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link goes on leading to the file
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
