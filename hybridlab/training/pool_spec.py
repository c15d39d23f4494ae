"""Which components get a memory pool of their own on an accelerator. Free of torch, so that pages may read it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridlab.training.group_spec import fits
from hybridlab.training.setting import setting


class PoolSpec(BaseModel):
    """Some components and the pool that their tensors come from.

    A component belongs to the first pool that takes it. A pool takes what fits all of ``match``, ``use``, ``kind`` and
    ``depth``; what no pool takes stays with torch's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        description="What the pool is called in results and messages.",
        min_length=1,
        max_length=40,
        pattern=r"^[A-Za-z_][A-Za-z0-9_ -]*$",
    )
    match: str = setting(
        "Paths of components, with * for any text and | between several: stage.*.mamba2; a path without the numbers of "
        "repeats fits all repeats.",
        "*",
        min_length=1,
        max_length=200,
    )
    use: str | None = setting("Components of this name only, such as mamba2.", None, max_length=100)
    kind: str | None = setting(
        "Components of this family only, such as token_mixer.", None, max_length=40
    )
    depth: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (
        setting(
            "From where to where in the network, 0 the first component and 1 the last.", (0.0, 1.0)
        )
    )
    backward: Annotated[bool, Field(strict=True)] = setting(
        "Take what their backward makes from the pool too; costs the host two calls for each of autograd's nodes.",
        False,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth[0] > self.depth[1]:
            raise ValueError(f"depth goes from {self.depth[0]} down to {self.depth[1]}")
        return self

    def takes(self, path: str, use: str, kind: str, depth: float) -> bool:
        """Say whether a component belongs here, by its path, name, family and depth."""
        return (
            fits(path, self.match)
            and self.use in (None, use)
            and self.kind in (None, kind)
            and self.depth[0] <= depth <= self.depth[1]
        )
