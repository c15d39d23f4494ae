"""Weights as safetensors: shared tensors stored once, files written beside, fsynced and renamed, never pickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridlab.architecture.importers.pickles import refused
from hybridlab.errors import Problem, RunError

_ALIASES = "aliases"


def weights_sha256(model: nn.Module) -> str:
    """Return a digest of every weight and buffer: names, dtypes, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_weights(
    state: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write a state dict to a file that a crash leaves whole or absent; ``about`` goes into its header.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(state, temporary, about)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(cannot_write(path, error)) from None


def write_tensors(
    state: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file; names that share one tensor are written once and listed in the header.

    Raises:
        OSError: the file cannot be written.
    """
    owners: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and key in owners:
            aliases[name] = owners[key]
        else:
            owners[key] = name
            stored[name] = tensor.detach().contiguous()
    header = {**(about or {}), _ALIASES: json.dumps(aliases)}
    try:
        save_file(stored, path, metadata=header)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read what ``write_tensors`` wrote, shared names included.

    Raises:
        RunError: the file is missing or damaged, or is a pickle.
    """
    if problem := refused(path):
        raise RunError(problem)
    try:
        with safe_open(path, framework="pt") as opened:
            aliases = json.loads((opened.metadata() or {}).get(_ALIASES, "{}"))
        tensors = load_file(path, device=str(device))
        return tensors | {name: tensors[owner] for name, owner in aliases.items()}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise RunError(Problem(str(path), f"cannot be read as weights: {error}")) from None


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into a model of the same architecture.

    Raises:
        RunError: names or shapes are not those of the model.
    """
    wanted = model.state_dict()
    problems = list(_differences(wanted, tensors))
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise RunError(
            Problem(
                str(where),
                "holds the weights of another architecture: " + "; ".join(problems[:3]) + more,
                fix="start a new run for the changed architecture",
            )
        )
    model.load_state_dict(dict(tensors))


def _differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in wanted if name not in given)
    yield from (f"{name} is unknown" for name in given if name not in wanted)
    for name, tensor in wanted.items():
        if name in given and given[name].shape != tensor.shape:
            yield f"{name} is {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut; folders are skipped where a system cannot."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: OSError) -> Problem:
    """Return the problem of a file that could not be written, with what helps against a full disk."""
    text = str(error).lower()
    full = "no space" in text or "quota" in text or "too large" in text
    reason = (
        "the disk is full (no space left on device)" if full else (error.strerror or str(error))
    )
    fix = "free some space and resume the run" if full else "check the folder and resume the run"
    return Problem(str(path), f"cannot be written: {reason}", fix=fix)
