"""Versions that were shared to be looked at: each a file in the home folder under a digest of it. Free of torch.

What is shared stays as it was: the name follows from the content, so nobody can put another text under it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hybridlab.architecture.document import MAX_BYTES
from hybridlab.errors import Problem, SpecError
from hybridlab.runs.home import home

MOST = 2_000
"""So many are kept, the ones that were shared last."""
_CODE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Shared:
    """A text as it was shared, what it is to be compared with (empty: nothing), and when (seconds since 1970)."""

    id: str
    text: str
    before: str
    time: float


def share(text: str, before: str = "") -> Shared:
    """Keep a text to be looked at by whoever has its id; the same text has the same id.

    Raises:
        SpecError: it is too large, or the folder cannot be written.
    """
    if max(len(text), len(before)) > MAX_BYTES:
        raise SpecError(Problem("", "the design is too large to share", "at most 512 KiB"))
    made = Shared(_id(text, before), text, before, time.time())
    path = _folder() / f"{made.id}.json"
    try:
        if (known := _read(path)) is not None:
            return known
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".sharing-", delete=False
        ) as file:
            json.dump({"text": text, "before": before, "time": made.time}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        _thin()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem("link", f"the version could not be shared: {reason}")) from None
    return made


def shared(id: str) -> Shared:
    """Return what was shared under an id.

    Raises:
        SpecError: the id is none, or there is nothing under it; in one sentence.
    """
    if not _CODE.fullmatch(id):
        raise SpecError(
            Problem(
                "link",
                "this link was cut or changed on its way, so it leads to no design",
                fix="copy the whole link again",
            )
        )
    found = _read(_folder() / f"{id}.json")
    if found is None:
        raise SpecError(
            Problem(
                "link",
                "what this link showed is not on this server, or not any more",
                fix="ask for a new link, or for the YAML file",
            )
        )
    return found


def _folder() -> Path:
    return home() / "shared"


def _id(text: str, before: str) -> str:
    content = json.dumps([text, before]).encode()
    return hashlib.sha256(content).hexdigest()[:32]


def _read(path: Path) -> Shared | None:
    """Return what is in a file; None where there is none, or it is not what was shared under its name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        made = Shared(
            path.stem, str(content["text"]), str(content["before"]), float(content["time"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return made if made.id == _id(made.text, made.before) else None


def _thin() -> None:
    """Remove the oldest beyond the bound."""
    files = list(_folder().glob("*.json"))
    if len(files) > MOST:
        for old in sorted(files, key=lambda path: path.stat().st_mtime)[: len(files) - MOST]:
            old.unlink(missing_ok=True)
