"""Splits the JSON of a trace into its events and the fields around them, without holding it whole.

A piece of the list of events is closed with a bracket and decoded. It decodes exactly if the cut stood between two
events: inside a string, an object or a list of an event one bracket cannot close what is open. So a guess at where
events end is checked by the decoder itself, and no text is looked at twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hybridlab.profiling.reading.blocks import refuse
from hybridlab.profiling.reading.limits import Limits
from hybridlab.units import format_bytes

T = TypeVar("T")
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb'\}(\s*),\s*\{\s*"')
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_BYTE = re.compile(r"\(byte (\d+)\)")
_NOT_NUMBERS = re.compile(rb"[:\[,\s](-?(?:NaN|nan|Infinity|inf|N/A))[,\]\s}]")
_TRUNCATED = "truncated"
_NEAR_BYTES = 64 * 1024
_GUESSES = 12
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT, _LIST = ord("{"), ord("[")


class Document:
    """A JSON text that arrives in blocks: an object with ``traceEvents``, or a bare list.

    Attributes:
        fields: what stands beside ``traceEvents``, undecoded; complete once ``batches`` has ended.
        rows: whether it is a bare list of lists, as ``export_memory_timeline`` writes.
    """

    def __init__(self, path: Path, text: Iterator[bytes], limits: Limits) -> None:
        """Read up to the first event.

        Raises:
            TraceError: this is not JSON, or JSON of something else.
        """
        self.path, self.limits = path, limits
        self.fields: dict[str, msgspec.Raw] = {}
        self._text = text
        self._done = False
        self._passed = 0
        self._buffer = b""
        while len(self._buffer) < 64 and self._more():
            self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf").lstrip()
        first = self._buffer[:1]
        if first == b"":
            raise refuse(path, "the file holds no text but blanks", fix="record the profile again")
        self.bare = self._buffer[0] == _LIST
        self.rows = self.bare and self._buffer[1:].lstrip()[:1] == b"["
        if self.bare:
            if self._buffer[1:].lstrip()[:1] not in (b"{", b"[", b"]"):
                raise refuse(path, "the file is a JSON list, but not one of trace events")
            self._pass(1)
        elif self._buffer[0] == _OBJECT:
            self._find_events()
        else:
            raise refuse(path, "the file is not JSON", got=_shown(self._buffer))

    def batches(self, decode: Callable[[bytes], Sequence[T]]) -> Iterator[Sequence[T]]:
        """Yield the events in batches, each decoded from about ``limits.piece_bytes`` of text.

        Raises:
            TraceError: the text is cut off, malformed, nested too deeply, or one event is larger than the limits.
        """
        wanted = self.limits.piece_bytes
        while True:
            while len(self._buffer) < wanted and self._more():
                pass
            if self._done:
                yield from self._last(decode)
                return
            batch, used, ended = self._some(decode)
            if ended:
                yield batch
                self._pass(used)
                self._finish()
                return
            if used:
                yield batch
                self._pass(used)
                wanted = self.limits.piece_bytes
            elif len(self._buffer) > self.limits.event_bytes:
                raise refuse(
                    self.path,
                    f"one entry of its list of events, at byte {self._passed}, is larger than "
                    f"{format_bytes(self.limits.event_bytes)}",
                )
            else:
                wanted = 2 * len(self._buffer)

    def _some(self, decode: Callable[[bytes], Sequence[T]]) -> tuple[Sequence[T], int, bool]:
        """Return the events up to a cut, the bytes they took, and whether the list ended among them."""
        for cut, resume in _cuts(self._buffer, self.rows):
            piece = b"".join((b"[", memoryview(self._buffer)[:cut], b"]"))
            batch, used = self._decode(decode, piece)
            if used is not None:
                return batch, used - 1, True
            if batch is not None:
                return batch, resume, False
        return [], 0, False

    def _last(self, decode: Callable[[bytes], Sequence[T]]) -> Iterator[Sequence[T]]:
        """Yield what is left, when all text has come, and read the fields after it."""
        piece = b"[" + self._buffer
        batch, used = self._decode(decode, piece)
        if used is not None:
            yield batch
            self._pass(used - 1)
            self._finish()
        elif batch is not None and self.bare:
            yield batch
        elif self.bare:
            # The bracket that closes a bare list may be missing: Chrome's format allows that.
            batch, _ = self._decode(decode, piece.rstrip().removesuffix(b",") + b"]")
            if batch is None:
                raise self._cut_off()
            yield batch
        else:
            raise self._cut_off()

    def _decode(
        self, decode: Callable[[bytes], Sequence[T]], piece: bytes
    ) -> tuple[Any, int | None]:
        """Decode a list; return it and, where text follows its bracket, its length; nothing where it is incomplete."""
        try:
            return decode(piece), None
        except RecursionError:
            raise refuse(self.path, "it is nested more deeply than any trace is") from None
        except msgspec.ValidationError as error:
            raise refuse(self.path, f"its entries are not trace events: {error}") from None
        except msgspec.DecodeError as error:
            text = str(error)
            if _TRUNCATED in text:
                return None, None
            if (trailing := _TRAILING.search(text)) is not None:
                used = int(trailing[1]) - 1  # the byte after the first that trails
                return decode(piece[:used]), used
            raise self._malformed(text, piece) from None

    def _find_events(self) -> None:
        looked = 0
        while True:
            for found in _EVENTS.finditer(self._buffer, looked):
                # Two brackets close the file here exactly if this is the list of the outermost object.
                try:
                    fields = _FIELDS.decode(self._buffer[: found.end()] + b"]}")
                except (msgspec.DecodeError, RecursionError):
                    continue
                if "traceEvents" in fields:
                    fields.pop("traceEvents")
                    self.fields = {name: raw.copy() for name, raw in fields.items()}
                    self._pass(found.end())
                    return
            looked = max(0, len(self._buffer) - 256)
            if len(self._buffer) > self.limits.header_bytes:
                raise refuse(
                    self.path,
                    f"there is no list of traceEvents in its first {format_bytes(len(self._buffer))}",
                )
            if not self._more():
                self._no_events()

    def _no_events(self) -> None:
        try:
            fields = _FIELDS.decode(self._buffer)
        except RecursionError:
            raise refuse(self.path, "it is nested more deeply than any trace is") from None
        except msgspec.DecodeError as error:
            if _TRUNCATED in str(error):
                raise self._cut_off() from None
            raise self._malformed(str(error), self._buffer) from None
        if "traceEvents" in fields:
            raise refuse(self.path, "its traceEvents are not a list")
        names = ", ".join(list(fields)[:4]) or "nothing"
        raise refuse(
            self.path,
            "it is JSON, but not the trace of a profiler: no traceEvents",
            got=names[:120],
        )

    def _finish(self) -> None:
        """Read what stands after the list of events."""
        while self._more():
            if len(self._buffer) > self.limits.header_bytes:
                raise refuse(
                    self.path,
                    f"more than {format_bytes(self.limits.header_bytes)} stand after its events",
                )
        if self.bare:
            if self._buffer.strip():
                raise refuse(
                    self.path, "text stands after its list of events", got=_shown(self._buffer)
                )
            return
        try:
            after = _FIELDS.decode(b'{"":0' + self._buffer.strip())
        except RecursionError:
            raise refuse(self.path, "it is nested more deeply than any trace is") from None
        except msgspec.DecodeError as error:
            if _TRUNCATED in str(error):
                raise self._cut_off() from None
            raise self._malformed(str(error), b'{"":0' + self._buffer) from None
        after.pop("")
        self.fields |= after

    def _more(self) -> bool:
        """Take one more block; tell whether there was one."""
        block = next(self._text, None)
        if block is None:
            self._done = True
            return False
        self._buffer += block
        return True

    def _pass(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._passed += count

    def _cut_off(self) -> Exception:
        return refuse(
            self.path,
            f"the text ends in the middle, after {self._passed + len(self._buffer)} bytes",
            fix="copy it again, or let the profiled program end by itself and record again",
        )

    def _malformed(self, message: str, piece: bytes) -> Exception:
        at = _BYTE.search(message)
        near = piece[max(0, int(at[1]) - 40) : int(at[1]) + 20] if at else b""
        if (number := _NOT_NUMBERS.search(near)) is not None:
            what = f"{number[1].decode()} stands where JSON has a number"
            return refuse(self.path, what, fix="write null or a number there")
        where = f" near {_shown(near)}" if near else ""
        return refuse(self.path, f"its JSON is malformed{where}: {message.split(': ', 1)[-1]}")


def _cuts(buffer: bytes, rows: bool) -> Iterator[tuple[int, int]]:
    """Yield places where one entry may end and the next begin, last first: end of one, start of the other."""
    if rows:
        at = buffer.rfind(b"],")
        if at >= 0:
            yield at + 1, at + 2
        return
    near = list(_BETWEEN.finditer(buffer, max(0, len(buffer) - _NEAR_BYTES)))
    if not near:
        near = list(_BETWEEN.finditer(buffer))
    for found in reversed(near[-_GUESSES:]):
        yield found.start() + 1, found.end(1) + 1


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))
