"""Files of weights that would run code when they are opened: known by how they start, and never opened."""

from __future__ import annotations

from pathlib import Path

from hybridlab.errors import Problem

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_STARTS = (b"PK\x03\x04", b"\x80")
"""PyTorch's archives, and a pickle as it stands."""


def refused(path: Path) -> Problem | None:
    """Return why a file, or a folder that holds no safetensors but such files, is not read; None where it may be."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
        path = found[0] if found and not any(path.glob("*.safetensors")) else path
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return None
    pickled = start.startswith(_STARTS) and not start.endswith(
        b"{"
    )  # safetensors: 8 bytes, then JSON
    if not pickled and path.suffix not in SUFFIXES:
        return None
    return Problem(
        str(path),
        "cannot be read as weights: it is a pickle, which can run code when it is opened",
        "safetensors files",
        fix="where you trust it, open it with the library that wrote it and save it again as safetensors; "
        "in transformers: model.save_pretrained(FOLDER)",
    )
