"""One event of a trace, as Kineto and Chrome write it: the fields that are wanted, the others skipped undecoded.

Source: https://github.com/pytorch/kineto/blob/main/libkineto/src/output_json.cpp
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeGuard

import msgspec

NOTHING = -1
"""Stands for an id or a number of bytes that an event does not give."""


class Args(msgspec.Struct, frozen=True, gc=False):
    """The arguments of an event that something here reads."""

    correlation: int = NOTHING
    external_id: int | None = msgspec.field(default=NOTHING, name="External id")
    external_id_2021: int | None = msgspec.field(default=NOTHING, name="external id")
    stream: int | str | None = NOTHING
    device: int | str | None = NOTHING
    sequence: int | None = msgspec.field(default=NOTHING, name="Sequence number")
    forward_thread: int | None = msgspec.field(default=NOTHING, name="Fwd thread id")
    python_id: int | None = msgspec.field(default=NOTHING, name="Python id")
    python_parent: int | None = msgspec.field(default=NOTHING, name="Python parent id")
    module: int | None = msgspec.field(default=NOTHING, name="Python module id")
    blocks_per_sm: float | None = msgspec.field(default=None, name="blocks per SM")
    occupancy: float | None = msgspec.field(default=None, name="est. achieved occupancy %")
    bytes: int | None = NOTHING
    memory_bytes: int | None = msgspec.field(default=0, name="Bytes")
    allocated: int | None = msgspec.field(default=NOTHING, name="Total Allocated")
    reserved: int | None = msgspec.field(default=NOTHING, name="Total Reserved")
    address: int | None = msgspec.field(default=NOTHING, name="Addr")
    device_type: int | None = msgspec.field(default=NOTHING, name="Device Type")
    device_id: int | None = msgspec.field(default=NOTHING, name="Device Id")
    name: str | int | float | None = None
    labels: str | None = None


_NO_ARGS = Args()


class Event(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``traceEvents``; times in µs."""

    ph: str = ""
    cat: str | None = ""
    name: str | None = ""
    pid: int | str | None = NOTHING
    tid: int | str | None = NOTHING
    ts: float | None = None
    dur: float | None = None
    args: Args | None = _NO_ARGS
    id: int | str | None = None


class CollectiveArgs(Args, frozen=True, gc=False):
    """The arguments of an operation between processes, which tell its size."""

    collective: str | None = msgspec.field(default=None, name="Collective name")
    elements_in: int | None = msgspec.field(default=NOTHING, name="In msg nelems")
    elements_out: int | None = msgspec.field(default=NOTHING, name="Out msg nelems")
    group_size: int | None = msgspec.field(default=NOTHING, name="Group size")
    dtype: str | None = None


class CollectiveEvent(Event, frozen=True, gc=False):
    """An event of a piece of text in which the sizes of collective operations stand."""

    args: CollectiveArgs | None = None


class CounterEvent(Event, frozen=True, gc=False):
    """A range for which the hardware counted; ``counted`` are its counters by name."""

    counted: dict[str, float] = {}


COUNTER_CATEGORY = "cuda_profiler_range"
_SIZED = b'"Collective name"'
_CATEGORY = attrgetter("cat")
_STRICT = msgspec.json.Decoder(list[Event])
_WITH_SIZES = msgspec.json.Decoder(list[CollectiveEvent])
_ANY = msgspec.json.Decoder(list[Any])
_WIRE = {field.encode_name: field.name for field in msgspec.structs.fields(CollectiveArgs)}
_WORDS = {"name", "labels", "collective", "dtype"}
_EITHER = {"stream", "device"}


_ONE_EACH = "hybridlab-one-each"


def _one_each(error: UnicodeError) -> tuple[str, int]:
    """Put a question mark for each byte that is not UTF-8, so that positions in the text stay."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "?" * (error.end - error.start), error.end


codecs.register_error(_ONE_EACH, _one_each)


def decode(text: bytes) -> Sequence[Event]:
    """Decode a JSON list of events; entries with fields of unusual types are read field by field.

    Raises:
        msgspec.DecodeError: the text is not a JSON list.
    """
    try:
        found = _WITH_SIZES.decode(text) if _SIZED in text else _STRICT.decode(text)
    except msgspec.ValidationError:
        found = [_lenient(entry) for entry in _ANY.decode(text)]
    except UnicodeDecodeError:
        return decode(text.decode("utf-8", _ONE_EACH).encode())
    counted = COUNTER_CATEGORY in set(map(_CATEGORY, found))
    return _with_counters(text, found) if counted else found


def _with_counters(text: bytes, events: Sequence[Event]) -> Sequence[Event]:
    """Read the counters of the ranges among events, whose names only a look at the text tells."""
    made = list(events)
    for at, (entry, event) in enumerate(zip(_ANY.decode(text), events, strict=True)):
        if event.cat == COUNTER_CATEGORY and isinstance(entry.get("args"), dict):
            counted = {
                name: float(value) for name, value in entry["args"].items() if _is_number(value)
            }
            fields = {name: getattr(event, name) for name in Event.__struct_fields__}
            made[at] = CounterEvent(**fields | {"args": None}, counted=counted)
    return made


def _lenient(entry: Any) -> Event:
    if not isinstance(entry, dict):
        return Event()
    args = entry.get("args")
    return CollectiveEvent(
        ph=_word(entry.get("ph")),
        cat=_word(entry.get("cat")),
        name=_word(entry.get("name")),
        pid=_either(entry.get("pid")),
        tid=_either(entry.get("tid")),
        ts=_number(entry.get("ts")),
        dur=_number(entry.get("dur")),
        args=_lenient_args(args) if isinstance(args, dict) else None,
        id=_either(entry.get("id")),
    )


def _lenient_args(args: dict[str, Any]) -> CollectiveArgs:
    kept: dict[str, Any] = {}
    for wire, value in args.items():
        name = _WIRE.get(wire)
        if name is None:
            continue
        if name in _WORDS:
            kept[name] = value if isinstance(value, str) else None
        elif name in _EITHER:
            kept[name] = _either(value)
        elif name in ("blocks_per_sm", "occupancy"):
            kept[name] = _number(value)
        else:
            number = _number(value)
            if number is not None:
                kept[name] = value if isinstance(value, int) else int(number)
    return CollectiveArgs(**kept)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not _is_number(value) or abs(value) >= 2**63 or value != value:
        return None
    return float(value)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _either(value: object) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None
