"""What components of a model do in another way than their design says, as plain data. Free of torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hybridlab.planning.saved import Choice

SMALLEST, LARGEST = 2, 1024


class Tuning(Choice):
    """By the paths of components: positions in a matrix product, and how sequences lie within them.

    What is not named stays as designed. It changes speed and memory; what is computed is the same but for rounding.
    """

    called: ClassVar[str] = "tuning"
    verb: ClassVar[str] = "tune"

    chunk: dict[str, Annotated[int, Field(strict=True, ge=SMALLEST, le=LARGEST)]] = Field(
        default_factory=dict
    )
    convolution: dict[str, Literal["image", "shifts", "rows"]] = Field(default_factory=dict)
    layout: dict[str, Literal["tokens", "channels"]] = Field(default_factory=dict)
    """How sequences lie within components: the features of a position side by side, or the positions of a feature."""
    hand_over: dict[str, Literal["channels"]] = Field(default_factory=dict)
    """What components hand over by channels, by the path of who gives it."""

    @property
    def count(self) -> int:
        """How many things are done in another way."""
        return len(self.chunk) + len(self.convolution) + len(self.layout) + len(self.hand_over)

    @property
    def empty(self) -> bool:
        """Whether all is done as designed."""
        return self.count == 0
