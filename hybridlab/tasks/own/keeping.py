"""Keeps a user's data in the HybridLab folder, under a digest of its content, cut into splits once and for all."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridlab.errors import Problem, TaskError
from hybridlab.runs.home import home, unwritable
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from hybridlab.tasks.own.reading import MAX_BYTES, MAX_VALUES, bad
from hybridlab.tasks.own.samples import Samples, samples
from hybridlab.tasks.own.schema import Guess, Schema, guess
from hybridlab.tasks.splits import TEN, same_samples, split_by_group

SPLITS = ("train", "val", "test")
_SPLIT_SEED = 20_261_102
_TEXT_SHARES = (0.8, 0.9)
_FORM = re.compile(r"d[0-9a-f]{16}")
_MOST_BYTES = 2 * MAX_BYTES + 16 * MAX_VALUES

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Kept:
    """What is known of kept data without reading its samples."""

    id: str
    name: str
    """Of the file it came from."""
    schema: Schema
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    """Of one sample: (L, C) or (C, height, width); () for text."""
    sizes: dict[str, int]
    """Samples of each split, or bytes for text."""
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """The task that learns from it."""
        if self.schema.form == "text":
            return "own_text"
        return "own_numbers" if self.schema.answers == "numbers" else "own_data"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "schema": self.schema.model_dump(mode="json"), "task": self.task}


def folder() -> Path:
    """Return the folder of the user's data; it need not exist yet."""
    return home() / "data"


def look(content: bytes, name: str, changes: Mapping[str, Any] | None = None) -> Guess:
    """Return how a file would be taken, for the user to correct; nothing is kept.

    Raises:
        TaskError: it cannot be read.
    """
    return guess(content, name, changes)[1]


def add(content: bytes, name: str, changes: Mapping[str, Any] | None = None) -> Kept:
    """Keep a file's data and return what it is kept as; the same data taken the same way has the same id.

    Raises:
        TaskError: it cannot be read, or cannot be taken as the schema says.
        StoreError: the HybridLab folder cannot be written.
    """
    blob = pack(content, name, changes)
    made = described(blob)
    path = folder() / f"{made.id}.safetensors"
    try:
        folder().mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{made.id}.{os.getpid()}.new")
        with draft.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise unwritable(folder(), error) from None
    return made


def pack(content: bytes, name: str, changes: Mapping[str, Any] | None = None) -> bytes:
    """Return a file's samples with their splits, and what is known of them, as the bytes that are kept."""
    from safetensors.numpy import save

    name = Path(name.replace("\\", "/")).name[:200] or "data"
    held, guessed = guess(content, name, changes)
    schema, notes = guessed.schema, guessed.notes
    arrays: Arrays
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    if schema.form == "text":
        data = np.frombuffer(held.text, dtype=np.uint8)
        cuts = [int(share * len(data)) for share in _TEXT_SHARES]
        arrays = dict(zip(SPLITS, np.split(data, cuts), strict=True))
        sizes = {key: len(part) for key, part in arrays.items()}
    else:
        made = samples(held, schema, name)
        groups = same_samples(made.inputs)
        parts = split_by_group(groups, _dealt(made), TEN, _SPLIT_SEED)
        sizes = {split: len(parts[split]) for split in SPLITS}
        if not all(sizes.values()):
            raise bad(
                name,
                "holds too few different samples for three splits",
                "at least 10",
                str(len(set(groups.tolist()))),
            )
        split = np.zeros(len(made.labels), dtype=np.uint8)
        for number, key in enumerate(SPLITS):
            split[parts[key]] = number
        arrays = {
            "inputs": np.ascontiguousarray(made.inputs),
            "labels": made.labels,
            "split": split,
        }
        shape, classes, notes = made.inputs.shape[1:], made.classes, (*notes, *made.notes)
        same = len(groups) - len(np.unique(groups))
        if same:
            notes = (*notes, f"{same} samples equal another one; equal samples are in one split.")
    about = {
        "name": name,
        "schema": schema.as_dict(),
        "classes": classes,
        "shape": shape,
        "sizes": sizes,
        "notes": notes,
    }
    return save(arrays, metadata={"about": json.dumps(about, sort_keys=True, ensure_ascii=False)})


def _dealt(made: Samples) -> NDArray[Any]:
    """Return what samples are dealt out by (n,): their class, or the tenth that their number is in."""
    if made.classes:
        return made.labels
    tenths = np.quantile(made.labels, np.arange(1, 10) / 10)
    return np.searchsorted(tenths, made.labels)


def kept() -> list[Kept]:
    """Return all data that is kept, by name; what cannot be read is left out."""
    found = []
    for path in folder().glob("*.safetensors") if folder().is_dir() else ():
        try:
            found.append(find(path.stem))
        except TaskError:
            continue
    return sorted(found, key=lambda one: (one.name, one.id))


def find(id_: str) -> Kept:
    """Return what is known of kept data.

    Raises:
        TaskError: there is none of that id, or it is damaged.
    """
    return _found(*_stamped(id_))


def remove(id_: str) -> list[Run]:
    """Delete kept data for good; return the runs that learnt from it, which cannot be resumed or scored again.

    Raises:
        TaskError: there is none of that id, or a run that is queued or running learns from it.
        StoreError: the store cannot be read, or the HybridLab folder cannot be written.
    """
    path = _stamped(id_)[0]
    users = [run for run in open_store().list(kind="train") if _learns_from(run, id_)]
    if busy := [run for run in users if run.state.active]:
        raise TaskError(
            Problem(
                "task_params.data",
                f"a run learns from it: {busy[0].name} ({busy[0].id})",
                "data that no queued or running training reads",
                id_,
                f"wait for it, or `hybridlab runs cancel {busy[0].id}`",
            )
        )
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder(), error) from None
    return users


def _learns_from(run: Run, id_: str) -> bool:
    training = dict(run.spec.get("training") or {})
    parts = [training, *dict(training.get("tasks") or {}).get("of", ())]
    return any(dict(part.get("task_params") or {}).get("data") == id_ for part in parts)


def arrays(id_: str) -> Arrays:
    """Return kept data: ``inputs`` (n, ...), ``labels`` (n,) and ``split`` (n,), or the bytes of each split.

    Raises:
        TaskError: there is none of that id, or it is damaged.
    """
    return unpacked(_read(*_stamped(id_)))


def unpacked(blob: bytes) -> Arrays:
    """Return the arrays of packed data."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(blob))
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(str(error)) from None


def described(blob: bytes) -> Kept:
    """Return what is known of packed data."""
    try:
        length = int.from_bytes(blob[:8], "little")
        about = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["about"])
        return Kept(
            id=_digest(blob),
            name=str(about["name"]),
            schema=Schema.model_validate(
                {**about["schema"], "inputs": tuple(about["schema"]["inputs"])}
            ),
            classes=tuple(map(str, about["classes"])),
            shape=tuple(map(int, about["shape"])),
            sizes={key: int(about["sizes"][key]) for key in SPLITS},
            notes=tuple(map(str, about["notes"])),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(str(error)) from None


def _stamped(id_: str) -> tuple[Path, int, int]:
    """Return the file that is kept under an id, when it was changed and its size.

    Raises:
        TaskError: there is none of that id.
    """
    if not _FORM.fullmatch(id_):
        raise _absent(id_)
    path = folder() / f"{id_}.safetensors"
    try:
        stamp = path.stat()
    except OSError:
        raise _absent(id_) from None
    return path, stamp.st_mtime_ns, stamp.st_size


@functools.lru_cache(maxsize=32)
def _found(path: Path, changed_ns: int, size: int) -> Kept:
    return described(_read(path, changed_ns, size))


@functools.lru_cache(maxsize=1)
def _read(path: Path, changed_ns: int, size: int) -> bytes:
    """Return the bytes of a file, after a check that they are the ones its name tells."""
    if size > _MOST_BYTES:
        raise _damaged("it is larger than anything that is kept")
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise _damaged(error.strerror or str(error)) from None
    if _digest(blob) != path.stem:
        raise _damaged("its content is not what its name says")
    return blob


def _digest(blob: bytes) -> str:
    """Return the id of packed data; by its first letter, no digest is read as a number where settings are."""
    return "d" + hashlib.sha256(blob).hexdigest()[:16]


def _absent(id_: str) -> TaskError:
    return TaskError(
        Problem(
            "task_params.data",
            "there is no data of yours under this id",
            "an id that `hybridlab data list` tells",
            repr(id_)[:60],
            "add the file with `hybridlab data add FILE`",
        )
    )


def _damaged(reason: str) -> TaskError:
    return TaskError(
        Problem(
            "task_params.data",
            "the kept data is damaged",
            got=reason[:120],
            fix="add the file again",
        )
    )
