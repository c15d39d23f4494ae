"""What is fused in a model, as plain data. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hybridlab.errors import Problem, RunError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fold(_Frozen):
    """Norms that read one tensor and differ in scale and shift alone; for each, the linear maps that alone read it.

    Scales and shifts go into the maps; what is left of the norms is computed once for all of them.
    """

    norms: tuple[str, ...]
    maps: tuple[tuple[str, ...], ...]


class Fusion(_Frozen):
    """What is fused in the model of an architecture, by the paths of its modules.

    Each of ``products`` holds linear maps that read one tensor; one map alone stands there where a component uses it
    in parts. Folds are for inference only.
    """

    version: Literal[1] = 1
    fingerprint: str
    training: bool = False
    products: tuple[tuple[str, ...], ...] = ()
    folds: tuple[Fold, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return self.model_dump(mode="json")

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all."""
        draft = file.with_name(f".{file.name}.tmp")
        draft.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        draft.replace(file)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` returned.

        Raises:
            RunError: it is none; it says what is wrong with it.
        """
        try:
            return cls.model_validate_json(json.dumps(content))
        except (ValueError, TypeError) as error:
            raise RunError(_problems(error, "fusion")) from None

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            RunError: the file is not there or is none; it says what is wrong with it.
        """
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(Problem(str(file), f"cannot be read: {error.strerror}")) from None
        except ValueError as error:
            raise RunError(_problems(error, str(file))) from None


def _problems(error: Exception, path: str) -> list[Problem]:
    if not isinstance(error, ValidationError):
        return [Problem(path, "is not a fusion", "what `hybridlab fuse --output` writes")]
    return [
        Problem(".".join((path, *map(str, one["loc"]))), one["msg"].lower())
        for one in error.errors()
    ]
