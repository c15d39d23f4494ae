"""The bytes of a trace file, unpacked block by block and never more than the limits allow."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hybridlab.errors import Problem, TraceError
from hybridlab.profiling.reading.limits import Limits
from hybridlab.units import format_bytes

_GZIP = b"\x1f\x8b"
_OTHER_PACKINGS = {b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "packed with zstd"}
_END_BYTES = 256
_EXPECTED = "a JSON or .json.gz file of torch.profiler"


def refuse(path: Path, message: str, got: str = "", fix: str = "") -> TraceError:
    """Return the error that says why a file is not read as a trace."""
    return TraceError(Problem(str(path), message, expected=_EXPECTED, got=got, fix=fix))


def blocks(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield the text of a file in blocks of ``limits.piece_bytes``; gzip is known by its first bytes.

    Raises:
        TraceError: the file cannot be opened, is empty, is cut off, or unpacks to more than the limits allow.
    """
    try:
        with path.open("rb") as file:
            first = file.read(4)
            file.seek(0)
            if not first:
                raise refuse(path, "the file is empty", fix="record the profile again")
            if first in _OTHER_PACKINGS:
                raise refuse(
                    path,
                    f"the file is {_OTHER_PACKINGS[first]}",
                    fix="unpack it, or pack it with gzip",
                )
            if first[:2] == _GZIP:
                yield from _unpacked(path, file, limits)
            else:
                _look_at_the_end(path, file, first, limits)
                yield from _bounded(path, file, limits)
    except OSError as error:
        raise refuse(path, f"the file cannot be read: {error.strerror or error}") from None


def _look_at_the_end(path: Path, file: BinaryIO, first: bytes, limits: Limits) -> None:
    """Refuse a large object without its closing brace at once, and not after having read all of it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES))
    end = file.read(_END_BYTES).rstrip()
    file.seek(0)
    if size > limits.piece_bytes and first.lstrip()[:1] == b"{" and end[-1:] not in (b"}", b""):
        raise refuse(
            path,
            f"the text ends in the middle, after {size} bytes",
            fix="copy it again, or let the profiled program end by itself and record again",
        )


def _bounded(path: Path, file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    total = 0
    while block := file.read(limits.piece_bytes):
        total += len(block)
        if total > limits.unpacked_bytes:
            raise refuse(path, f"the file is larger than {format_bytes(limits.unpacked_bytes)}")
        yield block


def _unpacked(path: Path, file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    packed_bytes = path.stat().st_size
    total = 0
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            while block := unpacked.read(limits.piece_bytes):
                total += len(block)
                # By what has been read so far: a bomb is known at its beginning, however long it is.
                allowed = max(limits.free_bytes, file.tell() * limits.packing)
                most = min(limits.unpacked_bytes, allowed)
                if total > most:
                    raise refuse(
                        path,
                        f"its {format_bytes(packed_bytes)} unpack to more than {format_bytes(most)}, "
                        "which no profiler writes",
                        fix="if it is a trace all the same, unpack it with gunzip and read the .json",
                    )
                yield block
    except EOFError:
        raise refuse(
            path,
            f"the gzip file is cut off after {format_bytes(total)} of text",
            fix="copy it again, or record the profile again",
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise refuse(path, f"the gzip file is damaged: {error}", fix="copy it again") from None
