"""How torch's allocator hands out an accelerator's memory. Free of torch, so that pages may read it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridlab.runs.allocator import allocator_text
from hybridlab.training.setting import setting


class AllocatorSpec(BaseModel):
    """Settings of torch's caching allocator; what is left empty is as torch has it.

    Meanings and limits: https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    expandable_segments: Annotated[bool, Field(strict=True)] | None = setting(
        "Let pieces that the driver gave grow, instead of asking for others of a fixed size: less is left over where "
        "sizes change from step to step.",
        None,
    )
    max_split_size_mb: Annotated[int, Field(strict=True)] | None = setting(
        "Largest block that may be split; a larger one serves only requests of about its size.",
        None,
        "MiB",
        ge=20,
        le=1_048_576,
    )
    garbage_collection_threshold: float | None = setting(
        "Share of the device's memory in use from which on old free blocks go back to the driver.",
        None,
        gt=0,
        lt=1,
    )
    roundup_power2_divisions: Literal[1, 2, 4, 8, 16, 32, 64] | None = setting(
        "Round requests up to one of so many steps between two powers of two, so that freed blocks fit again.",
        None,
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text():
            known = ", ".join(AllocatorSpec.model_fields)
            raise ValueError(f"no setting is given; name one of {known}, or leave allocator out")
        return self

    def text(self) -> str:
        """Return the settings as torch reads them from ``PYTORCH_ALLOC_CONF``."""
        return allocator_text(self.model_dump())
