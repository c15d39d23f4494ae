"""Where this home's studies are: a journal each in one folder, or a note that says in which storage one is."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import optuna
from optuna.study import Study

from hybridlab.errors import Problem, RunError, SpecError, StoreError
from hybridlab.runs.home import home, unwritable
from hybridlab.search.study import open_storage, shown_place

_NAME = re.compile(r"\w[\w .-]{0,150}")


def searches_folder() -> Path:
    """Return the folder of studies, a journal file each, as ``optuna-dashboard FILE`` opens; it may not exist yet."""
    return home() / "searches"


def check_name(name: str) -> str:
    """Return a study's name if it can be a file's as well.

    Raises:
        SpecError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(
            Problem(
                "study",
                "is not a name",
                "letters, digits, spaces, dots and dashes",
                repr(name)[:80],
            )
        )
    return name


def place_of(name: str) -> str | Path:
    """Return where a study of this home is, or would be: the URL or file that was noted, else its journal."""
    try:
        return (searches_folder() / f"{check_name(name)}.url").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return searches_folder() / f"{name}.journal"


def note_place(name: str, place: str | Path) -> None:
    """Note where a study is, if not in its journal here; only this user may read it, since a URL can hold a password.

    Raises:
        StoreError: the folder cannot be written.
    """
    note = searches_folder() / f"{check_name(name)}.url"
    text = str(place if "://" in str(place) else Path(place).absolute())
    if text == str(searches_folder() / f"{name}.journal"):
        return
    draft = note.with_name(f".{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(note)
    except OSError as error:
        raise unwritable(note.parent, error) from None


def studies() -> list[str]:
    """Return the names of this home's studies, the newest first."""
    files = [
        file
        for file in searches_folder().glob("*")
        if file.suffix in (".journal", ".url") and not file.name.startswith(".")
    ]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    return list(dict.fromkeys(file.stem for file in files))


def opened(name: str, place: str | Path | None = None) -> Study:
    """Return a study that exists; ``study.close`` closes its connections.

    Raises:
        RunError: there is none of that name.
        StoreError: its storage cannot be opened.
    """
    where = place or place_of(name)
    if "://" not in str(where) and not Path(where).exists():
        raise _unknown(name, studies())
    storage = open_storage(where)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        raise _unknown(name, optuna.get_all_study_names(storage)) from None
    except Exception as error:  # each driver of a database has errors of its own
        words = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise StoreError(
            Problem(shown_place(where), "the search's storage cannot be read", got=words)
        ) from None


def _unknown(name: str, there: list[str]) -> RunError:
    near = difflib.get_close_matches(name, there, n=1)
    known = ", ".join(there[:20])
    fix = f"did you mean {near[0]!r}?" if near else (f"known: {known}" if known else "")
    return RunError(
        Problem(
            "study",
            f"there is no study called {name!r}",
            fix=fix or "`hybridlab search FILE` makes one",
        )
    )
