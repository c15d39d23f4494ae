"""What a meter is, what it may read, and how a quantity is told that nothing measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

Read = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class NotMeasured:
    """A quantity that no meter reads here, and why; it stands where a number would, so that nobody takes it for 0."""

    quantity: str
    reason: str

    @property
    def sentence(self) -> str:
        """The words in place of a figure."""
        return f"{self.quantity}: not measured: {self.reason}"

    def as_dict(self) -> dict[str, str]:
        """Return the fields as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Meter:
    """One source of readings: ``read`` returns present values by the names of metrics, or raises where it is gone.

    ``quantity`` says in words what it reads, ``source`` who tells it. Names end in their unit: ``_percent``,
    ``_bytes``, ``_mhz``, ``_w``, ``_celsius``.
    """

    quantity: str
    source: str
    read: Read

    def as_dict(self) -> dict[str, str]:
        """Return what it reads and from where as plain JSON."""
        return {"quantity": self.quantity, "source": self.source}


@dataclass(frozen=True)
class Meters:
    """The meters that work here, and the quantities that none of them reads."""

    working: tuple[Meter, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()

    def __add__(self, other: Meters) -> Meters:
        """Return the meters of both."""
        return Meters(self.working + other.working, self.not_measured + other.not_measured)


def why(error: BaseException) -> str:
    """Return the first line of an error as a reason, never empty."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
