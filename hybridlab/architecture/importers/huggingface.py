"""Reads a Hugging Face ``config.json`` as an architecture; the families are the files beside."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hybridlab.architecture.importers import families as _families
from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.weights import Weights
from hybridlab.architecture.infer import check
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import nearest
from hybridlab.errors import Problem, SpecError
from hybridlab.validation import shown

MOST_BYTES = 4 * 1024 * 1024

Reader = Callable[[Fields], Draft]
Writer = Callable[[NormalForm], dict[str, Any]]


@dataclass(frozen=True)
class Family:
    """A family of published models: its ``model_type``, paper, defaults and reader."""

    name: str
    source: str
    defaults: Mapping[str, Any]
    harmless: frozenset[str]
    read: Reader


@dataclass(frozen=True)
class Imported:
    """A published model: its architecture, where each weight comes from, and what was left out."""

    architecture: Architecture
    weights: Weights
    unused: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Writing:
    """The way back of a family: the class of its models in ``transformers``, and the fields of a config.

    ``fields`` says what a config would hold for an architecture of the family; it does not ask whether it is one.
    ``folded`` are fields whose numbers a reader folds into weights, so that no architecture shows them.
    """

    model: str
    fields: Writer
    folded: tuple[str, ...] = ()


_REGISTRY: dict[str, Family] = {}
_WRITINGS: dict[str, Writing] = {}


def family(
    name: str, *, source: str, defaults: Mapping[str, Any], harmless: Collection[str] = ()
) -> Callable[[Reader], Reader]:
    """Register a reader under the ``model_type`` of its configs; ``source`` is the paper's URL."""

    def register(read: Reader) -> Reader:
        _REGISTRY[name] = Family(name, source, defaults, frozenset(harmless), read)
        return read

    return register


def writes(name: str, model: str, *, folded: tuple[str, ...] = ()) -> Callable[[Writer], Writer]:
    """Register the way back of a family: what its config holds for an architecture."""

    def register(fields: Writer) -> Writer:
        _WRITINGS[name] = Writing(model, fields, folded)
        return fields

    return register


def writings() -> Mapping[str, Writing]:
    """Return the families that can be written, by their ``model_type``."""
    return MappingProxyType({name: _WRITINGS[name] for name in families() if name in _WRITINGS})


@functools.cache
def families() -> Mapping[str, Family]:
    """Return every family by its ``model_type``."""
    for module in pkgutil.iter_modules(_families.__path__, _families.__name__ + "."):
        importlib.import_module(module.name)
    return MappingProxyType(dict(sorted(_REGISTRY.items())))


def read_file(path: str | os.PathLike[str], ignored: Collection[str] = ()) -> Imported:
    """Read a ``config.json``.

    Raises:
        SpecError: it cannot be read, or not as an architecture; every reason at once.
    """
    return read(content_of(path), ignored)


def content_of(path: str | os.PathLike[str]) -> Any:
    """Return what stands in a ``config.json``.

    Raises:
        SpecError: it cannot be read, or is not JSON.
    """
    where = Path(path)
    try:
        if where.stat().st_size > MOST_BYTES:
            raise SpecError(Problem(str(where), "the file is too large", "at most 4 MiB"))
        return json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem(str(where), f"cannot be read: {reason}", "a config.json")) from None
    except (ValueError, RecursionError) as error:
        raise SpecError(
            Problem(str(where), f"is not JSON: {str(error)[:200]}", "a config.json")
        ) from None


def read(content: Any, ignored: Collection[str] = ()) -> Imported:
    """Read the content of a ``config.json``; fields named in ``ignored`` count as left out.

    Raises:
        SpecError: no family reads it, it has fields or values that nothing here computes, or the parts do not fit;
            every reason at once, with the field's name as its path.
    """
    if not isinstance(content, Mapping):
        raise SpecError(Problem("", "this is not a config", "a mapping of fields", shown(content)))
    kind = content.get("model_type")
    known = families()
    if not isinstance(kind, str) or kind not in known:
        missing = kind is None
        raise SpecError(
            Problem(
                "model_type",
                "is missing" if missing else "no importer reads this family",
                ", ".join(known),
                shown(kind),
                "add the family's name" if missing else nearest(str(kind), list(known)),
            )
        )
    found = known[kind]
    fields = Fields(content, found.defaults, ignored=ignored, harmless=found.harmless)
    try:
        draft = found.read(fields)
    except (ValueError, TypeError, ArithmeticError):
        fields.finish()  # a wrong value is the likely cause
        raise
    if fields.raw("quantization_config"):
        fields.notes.append("quantization_config is left out: weights are plain numbers here")
    fields.finish()
    name = str(content.get("_name_or_path") or kind).rstrip("/").split("/")[-1][:200] or kind
    architecture, weights = draft.finish(name, found.source, f"Read from a {kind} config.json.")
    if problems := [p for p in check(architecture) if p.severity == "error"]:
        raise SpecError(problems)
    return Imported(architecture, weights, draft.unused, tuple(fields.all_notes()))
