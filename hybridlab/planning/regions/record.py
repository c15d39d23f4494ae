"""What runs compiled in a model, as plain data. Free of torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hybridlab.planning.saved import Saved

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of what a region reads."""


class Regions(Saved):
    """Modules of an architecture's model that run compiled, by their paths, each for itself.

    ``shapes`` are those of what each reads, samples first: on a whole batch of ``batch`` samples it runs compiled, as
    it was measured, else as it is. Those of ``broken`` run in several graphs with Python between them.
    ``compile_s`` is what compiling them all took where they were measured.
    """

    called: ClassVar[str] = "regions"
    verb: ClassVar[str] = "fuse --regions"

    version: Literal[1] = 1
    fingerprint: str
    device: str
    """The kind of device on which they were measured: ``cpu``, ``cuda`` …"""
    training: bool = False
    batch: int = Field(ge=1)
    paths: tuple[str, ...] = ()
    shapes: tuple[Shapes, ...] = ()
    broken: tuple[str, ...] = ()
    compile_s: float = Field(default=0.0, ge=0)

    @property
    def empty(self) -> bool:
        """Whether nothing is compiled."""
        return not self.paths
