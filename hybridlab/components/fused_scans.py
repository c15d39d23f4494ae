"""Compiles the fused CPU scans for this machine at first use; without a compiler the plain forms do their work.

The library lies in ``kernels/`` of the home folder under a name that tells the source, the compiler and the processor,
so that a new version, another compiler or another machine with the same home gets its own.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hybridlab.runs.home import home

SWITCH = "HYBRIDLAB_FUSED_SCANS"
"""Set to 0, this variable keeps scans in plain PyTorch."""

_SOURCE = Path(__file__).with_suffix(".cpp")
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ["-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno"]
_FLAGS += ["-ffp-contract=fast"]
_FOR_THIS_PROCESSOR = "-march=native"
_SECONDS = 120
_SMALL = 1 << 18
"""States times positions below which one thread is faster than starting a second."""


@dataclass(frozen=True)
class FusedScans:
    """The compiled scans, or none, and one sentence that says which form runs and why."""

    library: ctypes.CDLL | None
    told: str


def which_scan() -> str:
    """Say in one sentence whether scans run fused or in plain PyTorch on this machine's CPU, and why."""
    return fused_scans().told


def fused_for(*tensors: Tensor) -> ctypes.CDLL | None:
    """Return the compiled scans where they can take these tensors: float32 or complex64, on the CPU, not empty."""
    fits = all(
        tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.complex64)
        for tensor in tensors
    )
    return fused_scans().library if fits and all(tensor.numel() for tensor in tensors) else None


def threads_for(work: int) -> int:
    """Return how many threads a scan over so many numbers should take."""
    return 1 if work < _SMALL else torch.get_num_threads()


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Return where a contiguous tensor's numbers lie."""
    return ctypes.c_void_p(tensor.data_ptr())


def fused_scans() -> FusedScans:
    """Return the compiled scans, compiling them the first time on a machine."""
    if os.environ.get(SWITCH, "").strip() == "0":
        return FusedScans(None, f"Scans run in plain PyTorch: {SWITCH} is 0.")
    return _compiled(home() / "kernels")


@functools.cache
def _compiled(folder: Path) -> FusedScans:
    asked = os.environ.get("CXX", "").strip()
    found = [path for name in (asked, *_COMPILERS) if name and (path := shutil.which(name))]
    if not found:
        return _plain("there is no C++ compiler (c++, g++ or clang++); one would make them faster")
    try:
        library, compiler = _build(found[0], folder)
        return FusedScans(
            _declared(ctypes.CDLL(str(library))),
            f"Scans on the CPU run fused, compiled by {compiler} for this processor.",
        )
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return _plain(f"{found[0]} could not compile the fused form: {_first_line(said)}")


def _plain(why: str) -> FusedScans:
    return FusedScans(None, f"Scans run in plain PyTorch: {why}.")


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no reason given"])[0][:200].rstrip(".")


def _build(compiler: str, folder: Path) -> tuple[Path, str]:
    """Return the library, compiled unless it is there, and the compiler's name."""
    target = [_FOR_THIS_PROCESSOR]
    try:
        macros = _run(compiler, *target, "-dM", "-E", "-x", "c++", os.devnull)
    except subprocess.CalledProcessError:  # a compiler that does not know its own processor
        target = []
        macros = _run(compiler, "-dM", "-E", "-x", "c++", os.devnull)
    key = "\n".join([compiler, *_FLAGS, *target, macros, _SOURCE.read_text(encoding="utf-8")])
    library = folder / f"scans-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / library.name
            _run(compiler, *_FLAGS, *target, str(_SOURCE), "-o", str(made))
            made.replace(library)
    return library, Path(compiler).name


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    return done.stdout


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_long
    for name, pointers, numbers in (
        ("selective_forward", 7, 5),
        ("selective_backward", 12, 5),
        ("diagonal_forward", 3, 5),
        ("diagonal_backward", 5, 5),
        ("rows_forward", 4, 6),
        ("rows_backward", 3, 6),
    ):
        function = getattr(library, name)
        function.argtypes = [pointer] * pointers + [number] * numbers
        function.restype = None
    return library
