"""A front as a folder: each point a file that loads, validates and fits its task, and a table of what they cost.

Where designs decide how they are trained, a point is a folder of its architecture and its training's settings, with
the plan, the precision and the fusion that it was found with: ``hybridlab train`` follows them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridlab.architecture.document import dump, loads, write_yaml
from hybridlab.errors import Problem, RunError, StoreError
from hybridlab.search.front import ParetoFront

TABLE = "front.csv"
"""The points' values, one a row, beside their files."""
ARCHITECTURE, TRAINING = "architecture.yaml", "training.yaml"
"""What the folder of a point holds."""


def export(front: ParetoFront, folder: str | Path) -> list[Path]:
    """Write a front into a folder, which is made; return the files, those of the points first.

    A point's file is named after its trial and begins with a comment that says where it is from and what it reached;
    it is a folder of two where the design decided how it is trained.
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
            _forget(place / name)
        files = []
        for point in front.points:
            told = ", ".join(
                f"{objective.name} {value:.6g}"
                for objective, value in zip(front.objectives, point.values, strict=True)
            )
            text = dump(point.architecture)
            assert loads(text) == point.architecture
            head = f"{front.study}, trial {point.trial}: {told}"
            written = point_files(point.trial, head, text, front.settings, point.training)
            for name, content in written.items():
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(content, "utf-8")
                files.append(place / name)
        (place / TABLE).write_text(_table(front), encoding="utf-8")
        about.write_text(json.dumps(front.as_dict(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(
            Problem(str(place), f"the front cannot be written: {reason}", "a folder")
        ) from None
    return [*files, place / TABLE, about]


def point_files(
    trial: int, head: str, text: str, settings: Mapping[str, Any], decided: Mapping[str, Any]
) -> dict[str, str]:
    """Return what a point is exported as, by file names: its architecture, and its training where it decided that.

    Args:
        trial: its number.
        head: a line that says where it is from.
        text: its architecture in YAML.
        settings: what every trial of the study was trained with.
        decided: what its own design decided beside; empty where designs decide nothing.
    """
    folder = f"trial-{trial:04}"
    if not decided:
        return {f"{folder}.yaml": f"# {head}\n{text}"}
    how = f"# hybridlab train {ARCHITECTURE} --training {TRAINING}\n"
    training = write_yaml({**settings, **decided})
    return {
        f"{folder}/{ARCHITECTURE}": f"# {head}\n{text}",
        f"{folder}/{TRAINING}": f"# {head}\n{how}{training}",
    }


def _forget(there: Path) -> None:
    """Take away a point of an earlier export; what somebody else put beside it stays."""
    if re.fullmatch(r"trial-\d+\.yaml", there.name):
        there.unlink()
    elif re.fullmatch(r"trial-\d+", there.name) and there.is_dir():
        for name in (ARCHITECTURE, TRAINING):
            (there / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            there.rmdir()


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
