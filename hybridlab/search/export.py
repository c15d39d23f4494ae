"""A front as a folder: each point a file that loads, validates and fits its task, and a table of what they cost."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from hybridlab.architecture.document import dump, loads
from hybridlab.errors import Problem, RunError, StoreError
from hybridlab.search.front import ParetoFront

TABLE = "front.csv"
"""The points' values, one a row, beside their files."""


def export(front: ParetoFront, folder: str | Path) -> list[Path]:
    """Write a front into a folder, which is made; return the files, those of the points first.

    A point's file is named after its trial and begins with a comment that says where it is from and what it reached.
    The folder must be new, empty, or an export of the same study, which is replaced.

    Raises:
        RunError: the front is empty, or the folder holds something else.
        StoreError: the folder cannot be written.
    """
    place = Path(folder)
    if not front.points:
        raise RunError(Problem("study", "its front is empty", "at least one trial within limits"))
    about = place / "front.json"
    try:
        there = {file.name for file in place.iterdir()} if place.exists() else set()
        if there and not _same_study(about, front.study):
            raise RunError(
                Problem(str(place), "holds something else", "a new folder, or one of this front")
            )
        place.mkdir(parents=True, exist_ok=True)
        for name in there:
            if re.fullmatch(r"trial-\d+\.yaml", name):
                (place / name).unlink()
        files = [place / f"trial-{point.trial:04}.yaml" for point in front.points]
        for file, point in zip(files, front.points, strict=True):
            told = ", ".join(
                f"{objective.name} {value:.6g}"
                for objective, value in zip(front.objectives, point.values, strict=True)
            )
            text = dump(point.architecture)
            assert loads(text) == point.architecture
            file.write_text(f"# {front.study}, trial {point.trial}: {told}\n{text}", "utf-8")
        (place / TABLE).write_text(_table(front), encoding="utf-8")
        about.write_text(json.dumps(front.as_dict(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(
            Problem(str(place), f"the front cannot be written: {reason}", "a folder")
        ) from None
    return [*files, place / TABLE, about]


def _same_study(about: Path, study: str) -> bool:
    try:
        return bool(json.loads(about.read_text(encoding="utf-8"))["study"] == study)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _table(front: ParetoFront) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    choices = list(front.points[0].design)
    writer.writerow(["trial", *(objective.name for objective in front.objectives), *choices])
    for point in front.points:
        design = [point.design.get(choice) for choice in choices]
        writer.writerow([point.trial, *point.values, *design])
    return text.getvalue()
