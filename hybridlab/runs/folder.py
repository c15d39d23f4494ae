"""Reading a run's folder: its log, and an archive of it to download."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.runs.worker import LOG_NAME

_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".bin"}
_PACKED = {".safetensors", ".parquet", ".gz", ".zip", ".png"}


@dataclass(frozen=True)
class LogPart:
    """A piece of a log; ``next`` is the byte offset to ask for next time."""

    text: str
    next: int


def read_log(run_id: str, after: int = 0, most_bytes: int = 1 << 16) -> LogPart:
    """Return what a run's log says from a byte offset on; a negative offset counts from the end.

    A log that is longer is cut at ``most_bytes``; what is not UTF-8 becomes replacement characters.

    Raises:
        RunError: the id does not have the form of one.
    """
    path = run_folder(run_id) / LOG_NAME
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size + after) if after < 0 else min(after, size)
            file.seek(start)
            piece = file.read(most_bytes)
    except FileNotFoundError:
        return LogPart("", 0)
    whole = len(piece) if len(piece) < most_bytes else _whole(piece)
    return LogPart(piece[:whole].decode("utf-8", "replace"), start + whole)


def _whole(piece: bytes) -> int:
    """Return how much of a cut piece to take so that no character is cut in two."""
    for back in range(1, min(4, len(piece)) + 1):
        if piece[-back] & 0xC0 != 0x80:
            lead = piece[-back]
            needed = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
            return len(piece) - back if needed > back else len(piece)
    return len(piece)


def archive(run_id: str, target: Path | BinaryIO) -> None:
    """Write a zip of a run: its record, its metrics as CSV and the files of its folder.

    Links are not followed, and files in formats that may carry pickles are left out, as are drafts (names that begin
    with a dot). A running run gives what is there at the moment.

    Raises:
        RunError: there is no such run.
        OSError: the target cannot be written.
    """
    run = open_store().get(run_id)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=5) as bundle:
        record = json.dumps(run.as_dict(), ensure_ascii=False, indent=1)
        bundle.writestr(f"{run.id}/run.json", record)
        bundle.writestr(f"{run.id}/metrics.csv", _metrics_csv(run))
        folder = run_folder(run_id)
        for path in _files(folder):
            how = zipfile.ZIP_STORED if path.suffix in _PACKED else zipfile.ZIP_DEFLATED
            try:
                data = _read_regular(path)
            except OSError:
                continue  # a live run has just moved or removed it
            bundle.writestr(f"{run.id}/{path.relative_to(folder).as_posix()}", data, how)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.suffix.lower() not in _PICKLES:
                yield path


def _read_regular(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read()


def _metrics_csv(run: Run) -> str:
    columns = open_store().metrics(run.id)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", "name", "value", "seconds"])
    writer.writerows(zip(columns.step, columns.name, columns.value, columns.seconds, strict=True))
    return text.getvalue()
