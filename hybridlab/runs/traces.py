"""Traces that somebody opened: a folder each, with where the trace came from, and later what a process read in it.

``source.json`` says where the file is: an uploaded one lies in the folder, others stay where they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridlab.errors import Problem, RunError
from hybridlab.runs.home import home, unwritable
from hybridlab.runs.record import check_id, new_id

SOURCE = "source.json"
SUMMARY = "summary.json"
REPORT = "report"
MOST_UPLOAD_BYTES = 2 * 1024**3
_ROOM_BYTES = 256 * 1024**2
"""Room on the disk that an upload leaves to the others."""
_LETTERS = 120
_ENDINGS = (".json.gz", ".raw.gz", ".gz", ".json", ".raw")


@dataclass(frozen=True)
class Source:
    """Where a trace came from.

    ``how`` is upload, path or run; ``file`` is what is read; ``modified_ns`` tells whether it is still that file;
    ``added_at`` is seconds since 1970.
    """

    id: str
    name: str
    how: str
    file: str
    size_bytes: int
    modified_ns: int
    added_at: float
    run: str = ""

    @property
    def folder(self) -> Path:
        """The trace's folder in this home."""
        return trace_folder(self.id)


def trace_folder(trace_id: str) -> Path:
    """Return the folder of a trace in this home.

    Raises:
        RunError: the id does not have the form of one.
    """
    return home() / "traces" / check_id(trace_id)


def add_upload(name: str, chunks: Iterable[bytes], most_bytes: int = MOST_UPLOAD_BYTES) -> Source:
    """Write an upload to a file of its own, piece by piece, and return it.

    Raises:
        RunError: it is larger than allowed, or than the disk has room for.
        StoreError: the home folder cannot be written.
    """
    trace_id = new_id()
    folder = trace_folder(trace_id)
    ending = next((end for end in _ENDINGS if name.lower().endswith(end)), ".json")
    file = folder / f"trace{ending}"
    try:
        folder.mkdir(parents=True)
        room = shutil.disk_usage(folder).free - _ROOM_BYTES
        size = 0
        with file.open("wb") as target:
            for chunk in chunks:
                size += len(chunk)
                if size > most_bytes or size > room:
                    raise _too_large(name, most_bytes, room)
                target.write(chunk)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise unwritable(folder.parent, error) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _written(trace_id, _plain(name), "upload", file)


def add_file(path: str | Path) -> Source:
    """Return the trace of a file of this machine, as it was opened before or now; the file stays where it is.

    Raises:
        RunError: there is no such file, or it cannot be read.
        StoreError: the home folder cannot be written.
    """
    return _from_file(Path(path).expanduser(), "path")


def add_from_run(run_id: str, name: str) -> Source:
    """Return the trace of this name in a run's folder, as it was opened before or now.

    Raises:
        RunError: the run has no such trace.
        StoreError: the home folder cannot be written.
    """
    from hybridlab.runs.profile_request import (
        traces,
    )  # the store, which a reading process does without

    for path in traces(run_id):
        if path.name == name:
            return _from_file(path, "run", run_id)
    raise RunError(Problem(f"run {run_id}", "has no such trace", got=name[:80]))


def all_traces() -> list[Source]:
    """Return the traces of this home, the newest first; a folder that is damaged is left out."""
    try:
        names = os.listdir(home() / "traces")  # noqa: PTH208  (names alone are wanted)
    except OSError:
        return []
    found = [source for name in names if (source := _read(name)) is not None]
    return sorted(found, key=lambda source: -source.added_at)


def get(trace_id: str) -> Source:
    """Return a trace.

    Raises:
        RunError: there is no such trace.
    """
    found = _read(trace_id)
    if found is None:
        raise RunError(Problem(f"trace {trace_id[:40]}", "is not here", fix="open its file again"))
    return found


def forget(trace_id: str) -> None:
    """Delete a trace's folder with what was read in it; a file that was not uploaded stays.

    Raises:
        RunError: the id does not have the form of one.
        StoreError: the folder cannot be removed.
    """
    folder = trace_folder(trace_id)
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(folder, error) from None


def _from_file(path: Path, how: str, run: str = "") -> Source:
    path = path.absolute()
    try:
        known = path.stat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunError(Problem(str(path), f"cannot be opened: {reason}", "a trace")) from None
    if not stat.S_ISREG(known.st_mode):
        kind = "a folder" if stat.S_ISDIR(known.st_mode) else "no regular file"
        raise RunError(Problem(str(path), f"is {kind}", "a .json or .json.gz of torch.profiler"))
    if not os.access(path, os.R_OK):
        raise RunError(Problem(str(path), "may not be read by this user", "a trace"))
    for earlier in all_traces():
        same = (earlier.file, earlier.size_bytes, earlier.modified_ns)
        if same == (str(path), known.st_size, known.st_mtime_ns):
            return earlier
    return _written(new_id(), _plain(path.name), how, path, run)


def _written(trace_id: str, name: str, how: str, file: Path, run: str = "") -> Source:
    folder = trace_folder(trace_id)
    try:
        known = file.stat()
        source = Source(
            trace_id,
            name,
            how,
            str(file),
            known.st_size,
            known.st_mtime_ns,
            time.time(),
            run,
        )
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{SOURCE}.new"
        draft.write_text(json.dumps(asdict(source)), encoding="utf-8")
        draft.replace(folder / SOURCE)
    except OSError as error:
        raise unwritable(folder, error) from None
    return source


def _read(trace_id: str) -> Source | None:
    try:
        content = json.loads((trace_folder(trace_id) / SOURCE).read_text(encoding="utf-8"))
        source = Source(**content)
    except (OSError, ValueError, TypeError, RunError):
        return None
    if source.how != "upload":
        return source
    # A home may have been moved: an uploaded file lies in the trace's own folder.
    return Source(**{**content, "file": str(trace_folder(trace_id) / Path(source.file).name)})


def _plain(name: str) -> str:
    """Return a file's name without folders and control characters."""
    last = re.sub(r"[\x00-\x1f\x7f]+", " ", name.replace("\\", "/").rpartition("/")[2]).strip()
    return last[:_LETTERS] or "trace"


def _too_large(name: str, most_bytes: int, room: int) -> RunError:
    mib = 1024**2
    if room < most_bytes:
        return RunError(
            Problem(
                _plain(name), f"is larger than the disk has room for ({max(0, room) // mib} MiB)"
            )
        )
    return RunError(
        Problem(
            _plain(name),
            "is too large to be uploaded",
            f"at most {most_bytes // mib} MiB",
            fix="pack it with gzip, or open it with `hybridlab trace show` where it lies",
        )
    )
