"""Versions of designs in the home folder: automatic ones and named ones, each text once. Free of torch.

A history is a folder with one file a version, named by a digest of its text. Every write is a whole file under another
name that is renamed, under the folder's lock, so that two sessions at once lose nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hybridlab.architecture.document import MAX_BYTES
from hybridlab.errors import Problem, SpecError
from hybridlab.runs.home import home
from hybridlab.runs.lock import locked

MOST_AUTOMATIC = 50
"""Automatic versions of a design that are kept, the newest; named ones are kept until somebody removes them."""
MOST_UNSAVED = 30
"""Histories of designs that were never saved; older ones without named versions go."""
MAX_NAME = 80
_MOST_BYTES = 8 * MAX_BYTES
_HISTORY = re.compile(r"(open|saved)-[0-9a-f]{16}")
_VERSION = re.compile(r"[0-9a-f]{20}")
_ABOUT = "about.json"
_GONE = ".gone"
_MOST_GONE = 1_000


@dataclass(frozen=True)
class Version:
    """A text as it was at a time (seconds since 1970)."""

    id: str
    text: str
    time: float
    name: str = ""
    fingerprint: str = ""
    """The architecture's fingerprint; empty where the text was no whole architecture."""
    parent: str = ""
    """The id of the version that it was made from; empty for the first."""
    change: str = ""
    """What changed since its parent, in a few words."""
    since: float = 0.0
    """When this text was kept for the first time."""


@dataclass(frozen=True)
class History:
    """A design's history: what it is called, where it came from, and when it was edited last."""

    id: str
    title: str
    origin: str
    saved_as: str
    edited: float
    latest: str
    """The id of the text that was edited last."""


def new_history() -> str:
    """Return the id of a history for a design that is not saved yet; nothing is written."""
    return f"open-{secrets.token_hex(8)}"


def history_of(saved_as: str) -> str:
    """Return the id of the history of a saved design."""
    return f"saved-{hashlib.sha256(saved_as.encode()).hexdigest()[:16]}"


def version_id(text: str) -> str:
    """Return the name under which a text is kept."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


def keep(
    history: str,
    text: str,
    *,
    title: str,
    origin: str = "",
    saved_as: str = "",
    name: str = "",
    fingerprint: str = "",
    parent: str = "",
    change: str = "",
    instead_of: str = "",
    burst_from: float = 0.0,
    now: float | None = None,
) -> Version:
    """Keep a text; one that is kept already gets the new time, and keeps its name and parent.

    Edits come in bursts, of which the last is kept: ``instead_of`` is a version whose place this one takes, where that
    one is automatic and was first kept at ``burst_from`` or later. The oldest automatic versions beyond
    ``MOST_AUTOMATIC`` go.

    Raises:
        SpecError: the text is too large, or the folder cannot be written.
    """
    if len(text) > MAX_BYTES:
        size = f"{len(text) // 1024} KiB"
        raise SpecError(Problem("", "the design is too large to keep", "at most 512 KiB", size))
    folder = _folder(history)
    when = time.time() if now is None else now
    name = name.strip()[:MAX_NAME]
    made = Version(version_id(text), text, when, name, fingerprint, parent, change, when)
    try:
        fresh = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            known = _read(folder / f"{made.id}.json")
            if known is not None:
                made = replace(known, time=when, name=made.name or known.name)
            _write_version(folder, made)
            about = {"title": title[:200], "origin": origin[:300], "saved_as": saved_as}
            if _content(folder / _ABOUT) != about:
                _write(folder / _ABOUT, about)
            _thin(folder, made.id, instead_of, burst_from)
        if fresh:
            _forget_old(history)
    except OSError as error:
        raise _unwritable(error) from None
    return made


def versions(history: str) -> list[Version]:
    """Return a history's versions, newest first; files that cannot be read are left out."""
    found = [_read(path) for path in _files(_folder(history))]
    return sorted((v for v in found if v is not None), key=lambda v: v.time, reverse=True)


def read(history: str, id: str) -> Version | None:
    """Return one version, or None where it is not there any more."""
    return _read(_folder(history) / f"{id}.json") if _VERSION.fullmatch(id) else None


def common(history: str, one: str, other: str) -> Version | None:
    """Return the version that two versions were both made from, the nearest that is still kept; None where none is."""
    known = {version.id: version for version in versions(history)}
    parents = _parents_of_gone(_folder(history)) | {id: made.parent for id, made in known.items()}

    def line(id: str) -> list[str]:
        found: list[str] = []
        while id in parents and id not in found:
            found.append(id)
            id = parents[id]
        return found

    ancestors = line(other)
    return next((known[id] for id in line(one) if id in ancestors and id in known), None)


def name_version(history: str, id: str, name: str) -> None:
    """Give a version a name, so that it is kept for ever; an empty name takes it away.

    Raises:
        SpecError: there is no such version, or the folder cannot be written.
    """
    folder = _folder(history)
    try:
        with locked(folder / ".lock"):
            known = read(history, id)
            if known is None:
                raise SpecError(Problem("version", "this version is not there any more"))
            _write_version(folder, replace(known, name=name.strip()[:MAX_NAME]))
    except OSError as error:
        raise _unwritable(error) from None


def histories() -> list[History]:
    """Return all histories, the one that was edited last first."""
    place = home() / "versions"
    if not place.is_dir():
        return []
    found = [_about(path) for path in place.iterdir() if _HISTORY.fullmatch(path.name)]
    return sorted((h for h in found if h is not None), key=lambda h: h.edited, reverse=True)


def latest(history: History) -> Version | None:
    """Return a history's text that was edited last, or the newest that can be read."""
    known = read(history.id, history.latest)
    return known or next(iter(versions(history.id)), None)


def hand_on(source: str, target: str) -> None:
    """Give a history's versions to another too, as when a design is saved under a name; the source stays.

    Raises:
        SpecError: the folder cannot be written.
    """
    if source == target or not _folder(source).is_dir():
        return
    folder = _folder(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            for version in versions(source):
                path = folder / f"{version.id}.json"
                known = _read(path)
                if known is not None:
                    newer = max(known, version, key=lambda one: one.time)
                    version = replace(newer, name=known.name or version.name)
                if version != known:
                    _write_version(folder, version)
            with (folder / _GONE).open("a", encoding="ascii") as file:
                for id, parent in _parents_of_gone(_folder(source)).items():
                    file.write(f"{id} {parent}\n")
            newest = next(iter(versions(target)), None)
            if newest is not None:
                _thin(folder, newest.id)
    except OSError as error:
        raise _unwritable(error) from None


def forget(history: str) -> None:
    """Remove a history with all its versions; nothing happens where there is none."""
    shutil.rmtree(_folder(history), ignore_errors=True)


def _folder(history: str) -> Path:
    if not _HISTORY.fullmatch(history):
        raise SpecError(
            Problem("history", "this is not a design's history", "", repr(history[:60]))
        )
    return home() / "versions" / history


def _thin(folder: Path, newest: str, instead_of: str = "", burst_from: float = 0.0) -> None:
    """Remove the version that was replaced, and the oldest automatic ones beyond the bound."""
    if instead_of not in ("", newest):
        path = folder / f"{instead_of}.json"
        old = _read(path)
        if old is not None and not old.name and old.since >= burst_from:
            _remove(folder, old)
    if len(_files(folder)) > MOST_AUTOMATIC:
        unnamed = [v for v in versions(folder.name) if not v.name and v.id != newest]
        for old in unnamed[MOST_AUTOMATIC - 1 :]:
            _remove(folder, old)


def _remove(folder: Path, old: Version) -> None:
    """Remove a version, and remember what it was made from, so that those made from it know where they come from."""
    path = folder / _GONE
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    if len(lines) > 2 * _MOST_GONE:
        path.write_text("".join(f"{line}\n" for line in lines[-_MOST_GONE:]), encoding="ascii")
    with path.open("a", encoding="ascii") as file:
        file.write(f"{old.id} {old.parent}\n")
    (folder / f"{old.id}.json").unlink(missing_ok=True)


def _parents_of_gone(folder: Path) -> dict[str, str]:
    """Return what versions that are not there any more were made from; lines that say nothing are left out."""
    try:
        lines = (folder / _GONE).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ")[::2] for line in lines)
    return {id: parent for id, parent in pairs if _VERSION.fullmatch(id)}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.json") if path.name != _ABOUT]


def _forget_old(just_made: str) -> None:
    """Remove the oldest histories of designs that were never saved, but none with a named version."""
    unsaved = [h for h in histories() if h.id.startswith("open-") and h.id != just_made]
    for old in unsaved[MOST_UNSAVED - 1 :]:
        if not any(version.name for version in versions(old.id)):
            forget(old.id)


def _read(path: Path) -> Version | None:
    """Return the version in a file; None where there is none or the file was damaged."""
    content = _content(path)
    wanted = Version.__dataclass_fields__
    try:
        made = Version(**{key: content[key] for key in wanted if key in content})
        numbers = ("time", "since")
        good = made.id == path.stem and all(
            isinstance(getattr(made, key), (int, float) if key in numbers else str)
            for key in wanted
        )
    except TypeError:
        return None
    return made if good and version_id(made.text) == made.id else None


def _about(folder: Path) -> History | None:
    content = _content(folder / _ABOUT)
    try:
        title, origin, name = (str(content[key]) for key in ("title", "origin", "saved_as"))
        edited, newest = max((path.stat().st_mtime, path.stem) for path in _files(folder))
    except (KeyError, TypeError, ValueError, OSError):
        return None
    return History(folder.name, title, origin, name, edited, newest)


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_version(folder: Path, version: Version) -> None:
    """Write a version; its file carries its time too, so that the newest is found without reading all."""
    _write(folder / f"{version.id}.json", asdict(version), version.time)


def _write(path: Path, content: dict[str, Any], modified: float | None = None) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".keeping-", delete=False
    ) as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    if modified is not None:
        os.utime(file.name, (modified, modified))
    Path(file.name).replace(path)


def _unwritable(error: OSError) -> SpecError:
    reason = (error.strerror or str(error)).lower()
    return SpecError(Problem("versions", f"the design's versions could not be kept: {reason}"))
