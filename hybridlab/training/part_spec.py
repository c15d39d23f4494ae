"""Which part of a network is meant: components by path, name, family and depth. Free of torch: pages read it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridlab.training.setting import setting

_REPEAT = re.compile(r"\.\d+(?=\.|$)")


class PartSpec(BaseModel):
    """Some components, those that fit all of ``match``, ``use``, ``kind`` and ``depth``; a subclass says what for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        description="What it is called in curves, results and messages.",
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

    @model_validator(mode="after")
    def _goes_up(self) -> Self:
        if self.depth[0] > self.depth[1]:
            raise ValueError(f"depth goes from {self.depth[0]} down to {self.depth[1]}")
        return self

    def takes_component(self, path: str, use: str, kind: str, depth: float) -> bool:
        """Say whether a component belongs here, by its path, name, family and depth."""
        return (
            fits(path, self.match)
            and self.use in (None, use)
            and self.kind in (None, kind)
            and self.depth[0] <= depth <= self.depth[1]
        )


def fits(path: str, patterns: str) -> bool:
    """Say whether a component's path fits one of several patterns, with or without the numbers of its repeats."""
    return any(fits_name(each, patterns) for each in (path, _REPEAT.sub("", path)))


def fits_name(text: str, patterns: str) -> bool:
    """Say whether a text fits one of several patterns with | between them."""
    return any(fnmatchcase(text, pattern.strip()) for pattern in patterns.split("|"))
