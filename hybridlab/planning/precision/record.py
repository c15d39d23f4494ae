"""Which components of a model compute in which number format, as plain data. Free of torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from hybridlab.planning.saved import Choice

Format = Literal["float32", "bfloat16", "float16"]
FORMATS: tuple[Format, ...] = ("float32", "bfloat16", "float16")


class Measures(BaseModel):
    """What was measured of a step with these formats; errors are relative, against the whole in float32.

    ``error`` is of all gradients in training, of the output in passes forward. Bytes are those kept for backward, and
    ``time`` is over that of the step as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loss_error: Annotated[float, Field(ge=0)]
    error: Annotated[float, Field(ge=0)]
    time: Annotated[float, Field(gt=0)]
    saved_bytes: Annotated[int, Field(ge=0)]
    plain_saved_bytes: Annotated[int, Field(ge=0)]


class Precisions(Choice):
    """By the paths of components: the format of their arithmetic, in a step whose others compute ``within`` another.

    Weights stay in float32, and so do all numbers that go from component to component at a named one's border.
    """

    called: ClassVar[str] = "precisions"
    verb: ClassVar[str] = "precision"

    device: str
    """The kind of device that it was measured on: ``cpu``, ``cuda``."""
    within: Format = "float32"
    formats: dict[str, Format] = Field(default_factory=dict)
    measured: Measures | None = None

    @property
    def empty(self) -> bool:
        """Whether all compute as the step does."""
        return not self.formats
