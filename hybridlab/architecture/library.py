"""Where architectures are kept: the presets that ship, and the designs a person saved. Free of torch."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hybridlab.architecture.document import load, loads, parse
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.places import sample_configs
from hybridlab.runs.home import home
from hybridlab.validation import shown


@dataclass(frozen=True)
class Entry:
    """A kept architecture: its name in the library, its file, and what it says of itself."""

    name: str
    path: Path
    title: str
    source: str
    description: str

    def text(self) -> str:
        """Return the file's text, comments included."""
        return self.path.read_text(encoding="utf-8")


def presets() -> list[Entry]:
    """Return the architectures that ship with HybridLab, by name."""
    return entries(sample_configs() / "architectures")


def designs() -> list[Entry]:
    """Return the designs saved in the home folder, newest first."""
    return sorted(
        entries(designs_folder()), key=lambda entry: entry.path.stat().st_mtime, reverse=True
    )


def designs_folder() -> Path:
    """Return the folder of saved designs; it may not exist yet."""
    return home() / "designs"


def find(name: str) -> Path:
    """Return the file of a path, a preset or a saved design.

    Raises:
        SpecError: there is neither such a file nor such a name.
    """
    path = Path(name)
    with contextlib.suppress(OSError):  # a name too long for the file system is no file
        if path.is_file():
            return path
    for entry in [*presets(), *designs()]:
        if name in (entry.name, entry.title):
            return entry.path
    known = ", ".join(entry.name for entry in presets())
    raise SpecError(
        Problem(shown(name, 200), "there is no such architecture", "a file, or one of " + known)
    )


def preset(name: str) -> Entry:
    """Return the preset of a name.

    Raises:
        SpecError: there is no preset of this name.
    """
    entries = presets()
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries)
    raise SpecError(
        Problem("preset", "there is no such preset", "one of " + known, shown(name, 60))
    )


def open_architecture(name: str | os.PathLike[str]) -> Architecture:
    """Read an architecture by path, preset name or design name.

    Raises:
        SpecError: it is not there or does not describe an architecture.
    """
    return load(find(os.fspath(name)))


def architecture_of(source: Architecture | str | os.PathLike[str]) -> Architecture:
    """Return an architecture as it is, or read it: a file, the name of a preset or design, or several lines of YAML.

    Raises:
        SpecError: it is not there, or does not describe an architecture; the error holds every problem.
    """
    if isinstance(source, Architecture):
        return source
    if isinstance(source, str) and "\n" in source.strip():
        return loads(source)
    return open_architecture(source)


def save_design(
    name: str, text: str, *, overwrite: bool = False, expected: str | None = None
) -> Entry:
    """Keep a design's text under a name; the file is replaced whole or not at all.

    Where ``expected`` is given, a file that holds anything else is not replaced: somebody saved it in the meantime.

    Raises:
        SpecError: the name has no letter or digit, is taken, was saved elsewhere, or the folder cannot be written.
    """
    return save(designs_folder(), name, text, overwrite=overwrite, expected=expected)


def save(
    folder: Path, name: str, text: str, *, overwrite: bool = False, expected: str | None = None
) -> Entry:
    """Keep a text under a name in a folder; the file is replaced whole or not at all; ``expected`` as for designs.

    Raises:
        SpecError: the name has no letter or digit, is taken, was saved elsewhere, or the folder cannot be written.
    """
    slug = re.sub(r"[^\w-]+", "_", name.strip()).strip("_")[:80]
    if not slug:
        raise SpecError(Problem("name", "it needs a name", "letters or digits", shown(name)))
    path = folder / f"{slug}.yaml"
    if path.exists() and not overwrite:
        raise SpecError(
            Problem("name", "something of that name is saved already", "a new name", shown(name))
        )
    if expected is not None and _saved_elsewhere(path, expected, text):
        raise SpecError(
            Problem(
                "name",
                "this design was saved elsewhere since you opened it, perhaps in another tab",
                "the text as you last opened or saved it",
                fix="merge with it, or press Save a copy to keep both",
            )
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".saving-", delete=False
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem("name", f"it could not be saved: {reason}")) from None
    return _entry(path)


def _saved_elsewhere(path: Path, expected: str, text: str) -> bool:
    """Say whether a design's file holds what neither was there before nor is about to be written."""
    try:
        return path.read_text(encoding="utf-8") not in (expected, text)
    except (OSError, UnicodeDecodeError):  # it is gone or broken: nothing to lose
        return False


def delete_design(name: str) -> None:
    """Remove a saved design; nothing happens where there is none."""
    for entry in designs():
        if entry.name == name:
            entry.path.unlink(missing_ok=True)


def entries(folder: Path) -> list[Entry]:
    """Return what is kept in a folder, by name; nothing where there is no folder."""
    return [_entry(path) for path in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []


def _entry(path: Path) -> Entry:
    try:
        architecture, _ = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        architecture = None
    if architecture is None:
        return Entry(path.stem, path, path.stem, "", "")
    return Entry(path.stem, path, architecture.name, architecture.source, architecture.description)
