"""A choice for the model of an architecture, as plain data in a file or in a training's settings. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hybridlab.errors import Problem, RunError
from hybridlab.writing import write_whole


class Saved(BaseModel):
    """Something frozen that is read and written as JSON; a subclass says what it is called and what writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    called: ClassVar[str]
    """What it is, and its setting's name."""
    verb: ClassVar[str]
    """What writes it: ``hybridlab VERB --output``."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return self.model_dump(mode="json")

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            write_whole(file, json.dumps(self.as_dict(), indent=2) + "\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RunError(Problem(str(file), f"cannot be written: {reason}")) from None

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` returned.

        Raises:
            RunError: it is none; it says what is wrong with it.
        """
        try:
            return cls.model_validate_json(json.dumps(content))
        except (ValueError, TypeError) as error:
            raise RunError(cls._problems(error, cls.called)) from None

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            RunError: the file is not there or is none; it says what is wrong with it.
        """
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(
                Problem(str(file), f"cannot be read: {(error.strerror or str(error)).lower()}")
            ) from None
        except ValueError as error:
            raise RunError(cls._problems(error, str(file))) from None

    @classmethod
    def _problems(cls, error: Exception, path: str) -> list[Problem]:
        if not isinstance(error, ValidationError):
            return [
                Problem(path, f"is no {cls.called}", f"what `hybridlab {cls.verb} --output` writes")
            ]
        return [
            Problem(".".join((path, *map(str, one["loc"]))), one["msg"].lower())
            for one in error.errors()
        ]


class Choice(Saved):
    """What was chosen by measuring one step of an architecture's model; a subclass says what it does to the model."""

    version: Literal[1] = 1
    fingerprint: str
    training: bool = False
    """Whether it was chosen in training steps; else in passes forward."""

    @property
    def empty(self) -> bool:
        """Whether nothing was chosen."""
        raise NotImplementedError

    def check_design(self, fingerprint: str) -> None:
        """Refuse an architecture that it was not made for.

        Raises:
            RunError: it was made for another one.
        """
        if self.fingerprint != fingerprint:
            what = "was made for another architecture"
            fix = f"`hybridlab {self.verb}` measures this one"
            raise RunError(
                Problem(self.called, what, f"fingerprint {self.fingerprint}", fingerprint, fix)
            )

    def check_training(self) -> None:
        """Refuse a training where it was made for passes forward.

        Raises:
            RunError: it was.
        """
        if not self.training:
            fix = f"measure it with `hybridlab {self.verb} --for training`"
            raise RunError(Problem(self.called, "was made for inference", "for training", fix=fix))
