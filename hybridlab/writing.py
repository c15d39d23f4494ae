"""Files that are there whole or not at all: written under another name beside, synced, renamed. Free of torch."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace a file whole: nobody ever reads half of it, and where writing fails the one before stays.

    Raises:
        OSError: it cannot be written.
    """
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give another name to write under, which takes the file's place at the end of the block, unless that fails.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link goes on leading to the file
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
