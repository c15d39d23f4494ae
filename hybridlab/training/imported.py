"""Weights that were imported: which files they are, noted in the home folder, so that they can be chosen later.

Free of torch: pages read it. The files stay where they were written; only their places are noted.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridlab.architecture.document import load
from hybridlab.architecture.importers.pickles import refused
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.runs.home import home, unwritable


@dataclass(frozen=True)
class Imported:
    """An architecture's file and a safetensors file of its weights."""

    name: str
    """Of the architecture."""
    architecture: str
    weights: str

    def text(self) -> str:
        """Return the text of the architecture.

        Raises:
            OSError: it cannot be read.
        """
        return Path(self.architecture).read_text(encoding="utf-8")


def note(architecture: Path, weights: Path) -> Imported:
    """Note that weights lie in a file, and whose they are; return that. What the file holds is not looked at.

    Raises:
        SpecError: the architecture cannot be read, or there is no file of weights, or it is a pickle.
        StoreError: the HybridLab folder cannot be written.
    """
    problem = refused(weights)
    if problem is None and not weights.is_file():
        wanted = "safetensors, as `hybridlab import hf DIR --weights OUT` writes them"
        problem = Problem("weights", "there is no such file", wanted, str(weights)[:200])
    if problem is not None:
        raise SpecError(problem)
    name = load(architecture).name
    made = Imported(name, str(architecture.resolve()), str(weights.resolve()))
    path = _folder() / f"{hashlib.sha256(made.weights.encode()).hexdigest()[:16]}.json"
    draft = path.with_suffix(f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(asdict(made)), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise unwritable(_folder(), error) from None
    return made


def imported() -> list[Imported]:
    """Return what was noted and is still there, newest first."""
    found = []
    for path in _folder().glob("*.json"):
        try:
            one = Imported(**json.loads(path.read_text(encoding="utf-8")))
            if Path(one.architecture).is_file() and Path(one.weights).is_file():
                found.append((path.stat().st_mtime_ns, one.name, one))
        except (OSError, ValueError, TypeError, HybridLabError):
            continue  # what is not whole is not offered
    return [one for _, _, one in sorted(found, key=lambda each: each[:2], reverse=True)]


def _folder() -> Path:
    return home() / "imported"
