"""What is fused in a model, as plain data. Free of torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from hybridlab.planning.saved import Choice


class Fold(BaseModel):
    """Norms that read one tensor and differ in scale and shift alone; for each, the linear maps that alone read it.

    Scales and shifts go into the maps; what is left of the norms is computed once for all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norms: tuple[str, ...]
    maps: tuple[tuple[str, ...], ...]


class Fusion(Choice):
    """What is fused in the model of an architecture, by the paths of its modules.

    Each of ``products`` holds linear maps that read one tensor; one map alone stands there where a component uses it
    in parts. Folds are for inference only. With ``tables`` each table of turns, by which rotary queries and keys turn,
    is made once for all that need the same.
    """

    called: ClassVar[str] = "fusion"
    verb: ClassVar[str] = "fuse"

    products: tuple[tuple[str, ...], ...] = ()
    folds: tuple[Fold, ...] = ()
    tables: bool = False

    @property
    def across(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Products that join maps of several components, each with its place."""
        return tuple(
            (place, names)
            for place, names in enumerate(self.products)
            if len({name.split(".body.")[0] for name in names}) > 1
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is fused."""
        return not (self.products or self.folds or self.tables)
