"""What a search file says: what may vary, what matters, what is forbidden, and how it is looked for. Free of torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hybridlab.architecture.document import contents
from hybridlab.errors import Problem, SpecError
from hybridlab.search.closed_form import MIXERS
from hybridlab.units import parse_bytes
from hybridlab.validation import problems_from, shown

MAX_BYTES = 256 * 1024
MAX_TRIALS = 1_000_000
MAX_ENUMERATED = 300_000_000
"""Designs of a closed form: about half a minute to try them all."""
MAX_HALF = 2_000
"""Ways to choose half of a closed form's blocks; a table of the square of it is held in memory."""
Whole = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Value = str | bool | int | float | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClosedFormSpec(_Frozen):
    """The sizes of the closed-form benchmark space (``search/closed_form.py`` states its formulas)."""

    blocks: Annotated[int, Field(strict=True, ge=2, le=10)] = 8
    widths: tuple[Whole, ...] = Field((64, 96, 128, 192, 256), min_length=1, max_length=16)
    heads: tuple[Whole, ...] = Field((2, 4, 8), min_length=1, max_length=16)
    mixers: tuple[str, ...] = Field(MIXERS, min_length=1, max_length=3)

    @model_validator(mode="after")
    def _can_be_enumerated(self) -> Self:
        for name in ("widths", "heads", "mixers"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds a value twice")
        if unknown := [mixer for mixer in self.mixers if mixer not in MIXERS]:
            raise ValueError(
                f"mixers holds {unknown[0]!r}, for which there is no formula; take some of {', '.join(MIXERS)}"
            )
        if odd := [(w, h) for w in self.widths for h in self.heads if w % h]:
            raise ValueError(f"{odd[0][1]} heads do not divide width {odd[0][0]}")
        options = 2 * len(self.mixers)
        size = options**self.blocks * len(self.widths) * len(self.heads)
        if size > MAX_ENUMERATED or options ** ((self.blocks + 1) // 2) > MAX_HALF:
            raise ValueError(
                f"{size:,} designs are too many to try them all for the exact front; take fewer blocks or mixers"
            )
        return self


class TrainedTableSpec(_Frozen):
    """The table of hybrids that were really trained (``search/trained_table.py``), on one of its tasks."""

    task: Literal["mqar", "digits_sequence"] = "mqar"


class HalvingSpec(_Frozen):
    """How trainings are cut short: after some steps the best ``1/eta`` go on, as often as there are ``rungs``."""

    eta: Annotated[int, Field(strict=True, ge=2, le=16)] = 3
    rungs: Annotated[int, Field(strict=True, ge=0, le=8)] = 2


class SearchSpec(_Frozen):
    """A search: of the closed form, of the table of trained hybrids, or of an architecture that ``search`` marks.

    ``search`` names nodes by their path of ids (``stage.attention``) and gives, for each key of the node that may vary,
    the values: a list, or true for those that the component's parameter calls worth searching. ``width`` is the
    architecture's own, ``plan`` the memory that its training's step may take (``search.planned``). ``limits`` are the
    most that objectives may be, or the least where large is good. ``halving`` says when a training is compared with the
    others at the same length, and stopped unless it is among the best.
    """

    name: str = Field(min_length=1, max_length=100, pattern=r"^[\w][\w .-]*$")
    description: str = Field(default="", max_length=2_000)
    closed_form: ClosedFormSpec | None = None
    trained_table: TrainedTableSpec | None = None
    architecture: str | None = Field(default=None, max_length=1_000)
    task: str | None = Field(default=None, max_length=100)
    training: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Any] = Field(default_factory=dict)
    objectives: tuple[str, ...] = Field(default=(), max_length=4)
    limits: dict[str, float] = Field(default_factory=dict)
    halving: HalvingSpec = HalvingSpec()
    sampler: str = Field(default="cost_aware", max_length=50)
    trials: Annotated[int, Field(strict=True, ge=1, le=MAX_TRIALS)] = 100
    seed: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = 0

    @field_validator("limits", mode="before")
    @classmethod
    def _sizes(cls, value: object) -> object:
        """Read sizes such as ``2 GiB``."""
        if not isinstance(value, dict):
            return value
        return {k: parse_bytes(v) if isinstance(v, str) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        spaces = ("closed_form", "trained_table", "architecture")
        if sum(getattr(self, key) is not None for key in spaces) != 1:
            raise ValueError(
                "a search needs one of 'closed_form', 'trained_table' and 'architecture'"
            )
        if self.architecture is None:
            formula = self.closed_form is not None
            where = "closed form" if formula else "table of trained hybrids"
            own = ("task", "training", "search", *(("objectives",) if formula else ()))
            if odd := [key for key in own if getattr(self, key)]:
                raise ValueError(f"{odd[0]!r} goes with an architecture, not with the {where}")
        elif not self.search:
            raise ValueError("'search' says nothing that may vary")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("an objective stands there twice")
        return self


def read_search(source: str | os.PathLike[str]) -> SearchSpec:
    """Read a search from a YAML file.

    Raises:
        SpecError: the file cannot be read or does not describe a search; it holds every problem found.
    """
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(Problem(str(path), "is too large", f"at most {MAX_BYTES // 1024} KiB"))
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(Problem(str(path), "is not a text file", "YAML in UTF-8")) from None
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise SpecError(Problem(str(path), f"cannot be read: {reason}", "a search file")) from None
    return search_of(text)


def search_of(text: str) -> SearchSpec:
    """Read a search from YAML text.

    Raises:
        SpecError: the text does not describe a search; it holds every problem found.
    """
    content, problems = contents(text)
    if problems:
        raise SpecError(problems)
    if not isinstance(content, dict):
        raise SpecError(
            Problem("", "this is not a search", "a mapping with name and search", shown(content))
        )
    try:
        return SearchSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(problems_from(error, known=list(SearchSpec.model_fields))) from None
