"""Checkpoints that a kill at any moment leaves readable: written beside, fsynced, renamed, checked on load.

A checkpoint is a folder ``step-00000100`` of ``model.safetensors``, ``optimizer.safetensors`` (with the random
states) and ``state.json``, which holds a digest of both files and of itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.errors import Problem, RunError
from hybridlab.training.weights import cannot_write, read_tensors, sync, write_tensors

FORMAT = 1
MODEL, OPTIMISER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
OWN = "objective:"
"""What the names of tensors begin with that are learnt beside the model; no path has a colon."""
_NAME = re.compile(r"step-(\d{8,})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were found whole."""

    path: Path
    step: int
    content: Mapping[str, Any]
    """What ``save`` was given as ``state``."""

    def model(self) -> dict[str, Tensor]:
        """Read the model's tensors."""
        return read_tensors(self.path / MODEL)

    def optimiser(self) -> dict[str, Tensor]:
        """Read the optimiser's tensors and the random states."""
        return read_tensors(self.path / OPTIMISER)


def save(
    folder: Path,
    step: int,
    model: Mapping[str, Tensor],
    optimiser: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write a checkpoint into a folder of checkpoints, then remove all but the ``keep`` newest as far as that can be.

    Raises:
        RunError: it cannot be written (a full disk, say); the checkpoints before it are as they were.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".new-{step:08d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _discard(temporary)
        temporary.mkdir()
        write_tensors(model, temporary / MODEL)
        write_tensors(optimiser, temporary / OPTIMISER)
        files = {name: _digest(temporary / name) for name in (MODEL, OPTIMISER)}
        content = {"format": FORMAT, "step": step, "files": files, "state": dict(state)}
        (temporary / STATE).write_text(_sealed(content), encoding="utf-8")
        for name in (MODEL, OPTIMISER, STATE):
            sync(temporary / name)
        sync(temporary)
        if final.exists():
            _discard(final)
        temporary.rename(final)
        sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(cannot_write(final, error)) from None
    try:
        for _, old in sorted(_found(folder), reverse=True)[keep:]:
            _discard(old)
    except OSError as error:  # the new one is whole; the next one tries again
        _log.warning("an old checkpoint cannot be removed: %s", error)
    return final


def latest(folder: Path, last: float = math.inf) -> Checkpoint | None:
    """Return the newest checkpoint up to a step that is whole, or None.

    Damaged ones are passed over with a warning in the log.
    """
    for step, path in sorted(_found(folder), reverse=True):
        if step > last:
            continue
        try:
            return load(path)
        except RunError as error:
            _log.warning("the checkpoint of step %d is passed over: %s", step, error)
    return None


def load(path: Path) -> Checkpoint:
    """Check a checkpoint's files against their digests.

    Raises:
        RunError: a file is missing or damaged, or the checkpoint is of a newer format.
    """
    try:
        content = _unsealed((path / STATE).read_text(encoding="utf-8"))
        files = {name: _digest(path / name) for name in (MODEL, OPTIMISER)}
    except OSError as error:
        where = error.filename or path
        raise RunError(Problem(str(where), f"cannot be read: {error.strerror}")) from None
    except (ValueError, KeyError, TypeError):
        raise RunError(Problem(str(path / STATE), "is damaged")) from None
    if content.get("format") != FORMAT:
        problem = Problem(str(path), "has another format", str(FORMAT), str(content.get("format")))
        raise RunError(problem)
    for name, digest in files.items():
        if digest != content["files"][name]:
            raise RunError(Problem(str(path / name), "is damaged: its checksum does not match"))
    return Checkpoint(path, int(content["step"]), content["state"])


def forget_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps."""
    for _, path in sorted((one for one in _found(folder) if one[0] > step), reverse=True):
        _discard(path)


def clean(folder: Path) -> None:
    """Remove what a kill left half written or half removed."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith((".new-", ".old-")):
                shutil.rmtree(path, ignore_errors=True)


def beside(model: nn.Module, own: nn.Module | None) -> dict[str, Tensor]:
    """Return a model's tensors, with those of what is learnt beside it under names of their own."""
    more = own.state_dict() if own is not None else {}
    return model.state_dict() | {OWN + name: tensor for name, tensor in more.items()}


def apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what ``beside`` joined: the model's tensors, and those of what is learnt beside it."""
    own = {name.removeprefix(OWN): one for name, one in tensors.items() if name.startswith(OWN)}
    return {name: one for name, one in tensors.items() if not name.startswith(OWN)}, own


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimiser's tensors under flat names (``3.exp_avg``), and its groups as plain JSON."""
    full = optimiser.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, values in full["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    plain = {
        str(index): {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        for index, values in full["state"].items()
    }
    return tensors, {"groups": full["param_groups"], "plain": plain}


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Put back what ``pack_optimiser`` returned.

    Raises:
        RunError: it belongs to a model with other parameters.
    """
    state: dict[int, dict[str, Any]] = {
        int(index): dict(kept) for index, kept in plain["plain"].items()
    }
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        if index.isdigit():
            state.setdefault(int(index), {})[field] = tensor
    try:
        optimiser.load_state_dict({"state": state, "param_groups": list(plain["groups"])})
    except (ValueError, KeyError) as error:
        raise RunError(
            f"the checkpoint's optimiser state does not fit the model: {error}"
        ) from None


def _found(folder: Path) -> Iterator[tuple[int, Path]]:
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), path


def _discard(path: Path) -> None:
    """Take a folder out of sight by one rename, then remove it, so that no half-removed checkpoint is ever seen."""
    if path.exists():
        aside = path.with_name(f".old-{path.name.lstrip('.')}-{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sealed(content: Mapping[str, Any]) -> str:
    body = json.dumps(content, sort_keys=True, allow_nan=False)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "content": body})


def _unsealed(text: str) -> dict[str, Any]:
    outer = json.loads(text)
    body = outer["content"]
    if hashlib.sha256(body.encode()).hexdigest() != outer["sha256"]:
        raise ValueError("checksum")
    content: dict[str, Any] = json.loads(body)
    return content
