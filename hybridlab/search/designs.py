"""The architectures that are searched around, kept beside the studies, so that a search file can name them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hybridlab.runs.home import unwritable
from hybridlab.search.places import searches_folder


def keep_design(text: str) -> Path:
    """Keep the text of an architecture under a name that its content gives; return the file.

    Raises:
        StoreError: the folder cannot be written.
    """
    folder = searches_folder() / "designs"
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    try:
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
    except OSError as error:
        raise unwritable(folder, error) from None
    return file
