"""The home folder: where runs, their store and the supervisor's files live."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hybridlab.errors import Problem, StoreError
from hybridlab.runs.lock import locked
from hybridlab.runs.record import check_id

HOME_VARIABLE = "HYBRIDLAB_HOME"
STORE_VARIABLE = "HYBRIDLAB_STORE"


def home() -> Path:
    """Return the home folder: ``HYBRIDLAB_HOME``, or ``~/.hybridlab``; it need not exist yet."""
    chosen = os.environ.get(HOME_VARIABLE, "").strip()
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".hybridlab"


def store_url() -> str:
    """Return the store's URL: ``HYBRIDLAB_STORE``, or SQLite in the home folder."""
    return os.environ.get(STORE_VARIABLE, "").strip() or f"sqlite:///{home() / 'store.sqlite'}"


def run_folder(run_id: str) -> Path:
    """Return the folder of a run in this home.

    Raises:
        RunError: the id does not have the form of one.
    """
    return home() / "runs" / check_id(run_id)


def designs_folder() -> Path:
    """Return the folder of the user's saved designs."""
    return home() / "designs"


def prepare_home() -> Path:
    """Make the home folder and what belongs in it, and return it.

    Raises:
        StoreError: it cannot be made or written.
    """
    place = home()
    try:
        for folder in (place, place / "runs", designs_folder()):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(place, error) from None
    return place


def home_id() -> str:
    """Return the home's own name, made once; runs in a shared store belong to the home that carries it.

    A name in a file and not the path or the machine's name: a home may be moved, or mounted into a new container.

    Raises:
        StoreError: the home folder cannot be read or written.
    """
    marker = home() / "home_id"
    try:
        return marker.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        prepare_home()
    except OSError as error:
        raise unwritable(marker.parent, error) from None
    try:
        with locked(marker.with_suffix(".lock")):
            if not marker.exists():
                draft = marker.with_suffix(".new")
                draft.write_text(secrets.token_hex(8), encoding="ascii")
                draft.replace(marker)
        return marker.read_text(encoding="ascii").strip()
    except OSError as error:
        raise unwritable(marker.parent, error) from None


def unwritable(place: Path, error: OSError) -> StoreError:
    """Return the error that says why nothing can be written in a folder."""
    return StoreError(
        Problem(
            str(place),
            "the HybridLab folder cannot be written",
            "a folder this user may write, on a disk with room",
            (error.strerror or str(error)).lower(),
            f"free it, or set {HOME_VARIABLE} to another folder",
        )
    )
