"""How much a file of somebody else may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """Bounds of one reading; every one of them ends in a sentence, never in a full memory."""

    piece_bytes: int = 2 * _MIB
    """Text that is decoded at once; the memory of a reading grows with this and with the columns, not with the file."""
    header_bytes: int = 16 * _MIB
    """Text before, and text after, the list of events."""
    event_bytes: int = 16 * _MIB
    """Text of one event."""
    unpacked_bytes: int = 32 * 1024**3
    """Text of a whole file, unpacked."""
    events: int = 20_000_000
    """Events of a whole file."""
    packing: int = 150
    """How many times larger than what is read of a file its text may be, beyond ``free_bytes``; profilers reach 45."""
    free_bytes: int = 16 * _MIB
    """Text that may come out of a file however small the file is."""
    address_bytes: int = 16 * 1024**3
    """Memory of a process that does nothing but read a trace."""
