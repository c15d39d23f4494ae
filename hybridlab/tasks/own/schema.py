"""Guesses what a user's file asks of a model, as plain data that the user can correct."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.own.reading import Content, Form, bad, read
from hybridlab.validation import problems_from

Answers = Literal["classes", "numbers"]
MAX_CLASSES = 1_000
_GUESSED_CLASSES = 100
"""Most different whole numbers that are taken as classes unless the user knows better."""
MIN_TEXT = 2_000
"""Bytes of text below which there is nothing to learn and to test."""
_LABELS = ("label", "labels", "class", "target", "targets", "y", "category", "species", "y_train")
_INPUTS = ("x", "data", "inputs", "images", "features", "x_train")
_NUMBERED = ("id", "index", "row", "unnamed: 0", "column_0")


class Schema(BaseModel):
    """How a file is taken; a user may change every field of a guess."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    form: Form = Field(description="What the file is: text, rows of a table, or arrays.")
    label: str = Field(
        default="", description="Column or array with the answers; none for text.", max_length=500
    )
    inputs: tuple[str, ...] = Field(
        default=(),
        description="Columns in the order in which they are read, or one array; none for text.",
    )
    shape: Literal["series", "image"] = Field(
        default="series",
        description="Whether samples are read as series (L, C) or as images (C, height, width).",
    )
    answers: Answers = Field(
        default="classes",
        description="Whether each answer is one of some classes, or a number to come near to.",
    )
    unit: str = Field(
        default="",
        description="What numbers are counted in, such as kg; may be left out.",
        max_length=30,
        pattern=r"^[\w %/°²³µ€.·^-]*$",
    )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, as it was before answers could be numbers where they are classes: ids stay the same."""
        only_of_numbers = {"answers", "unit"} if self.answers == "classes" else set()
        return self.model_dump(mode="json", exclude=only_of_numbers)


@dataclass(frozen=True)
class Guess:
    """A schema, and what it is a guess from."""

    schema: Schema
    columns: tuple[dict[str, Any], ...]
    """Name, kind, different values, missing values and an example of every column; name, type and shape of arrays.

    ``answers`` says as what its values would be taken if it held the answers; it is empty where it cannot.
    """
    rows: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "schema": self.schema.model_dump(mode="json")}


def guess(
    content: bytes, name: str, changes: Mapping[str, Any] | None = None
) -> tuple[Content, Guess]:
    """Read a file and guess how to take it; ``changes`` are the fields of ``Schema`` that the user knows better.

    Raises:
        TaskError: the file cannot be read, or a change names what it does not hold.
    """
    changes = dict(changes or {})
    form = changes.get("form")
    if form not in (None, "text", "rows", "arrays"):
        raise bad("form", "is not one of the choices", "text, rows or arrays", repr(form)[:60])
    held = read(content, name, form)
    made = {"rows": _of_rows, "arrays": _of_arrays}.get(held.form, _of_text)(held, name, changes)
    try:
        wanted = {**made.schema.model_dump(), **changes}
        wanted["inputs"] = tuple(wanted["inputs"])
        schema = Schema.model_validate(wanted)
    except ValidationError as error:
        raise TaskError(problems_from(error, known=list(Schema.model_fields))) from None
    except TypeError:
        raise bad(
            "inputs", "is not a list of names", "a list", repr(changes.get("inputs"))[:60]
        ) from None
    unknown = [*_unknown(schema, held)]
    if unknown:
        raise TaskError(unknown)
    return held, Guess(schema, made.columns, made.rows, made.notes)


def _of_text(held: Content, name: str, changes: Mapping[str, Any]) -> Guess:
    if len(held.text) < MIN_TEXT:
        raise bad(
            name, "is too short a text", f"at least {MIN_TEXT:,} bytes", f"{len(held.text):,}"
        )
    return Guess(Schema(form="text"), (), held.text.count(b"\n") + 1, held.notes)


def _of_rows(held: Content, name: str, changes: Mapping[str, Any]) -> Guess:
    columns = held.columns or {}
    facts: list[dict[str, Any]] = []
    for key, column in columns.items():
        values = column.names()
        missing = int(column.missing.sum())
        facts.append(
            {
                "name": key,
                "kind": "text" if column.numbers is None else "number",
                "different": (different := len(set(values)) - bool(missing)),
                "missing": missing,
                "answers": _answers(column.numbers, different),
                "example": next(
                    (v for v, no in zip(values, column.missing, strict=True) if not no), ""
                )[:60],
            }
        )
    rows = len(next(iter(columns.values())).missing)
    label = str(changes.get("label") or _label(facts, rows))
    numbered = [
        f["name"] for f in facts if f["name"].lower() in _NUMBERED and f["different"] == rows
    ]
    taken = tuple(
        f["name"]
        for f in facts
        if f["kind"] == "number" and f["name"] != label and f["name"] not in numbered
    )
    left = [f["name"] for f in facts if f["name"] not in (*taken, label)]
    notes = (f"Left out: {', '.join(left[:10])}.",) if left else ()
    if not taken and "inputs" not in changes:
        raise bad(
            name,
            "has no column of numbers beside the label",
            "numbers to read",
            fix="encode text as numbers",
        )
    return Guess(
        Schema(form="rows", label=label, inputs=taken, answers=_taken_as(facts, label)),
        tuple(facts),
        rows,
        (*held.notes, *notes),
    )


def _answers(values: NDArray[Any] | None, different: int) -> Answers:
    """Say as what labels are taken, None for text: numbers where they are not whole or hardly one comes again."""
    if values is None:
        return "classes"
    few = different <= min(_GUESSED_CLASSES, max(2, len(values) // 5))
    return "classes" if few and whole(values) else "numbers"


def whole(values: NDArray[Any]) -> bool:
    """Say whether all numbers that are there (n,) are whole."""
    return bool((values[np.isfinite(values)] % 1 == 0).all())


def _taken_as(facts: Sequence[Mapping[str, Any]], label: str) -> Answers:
    return next((f["answers"] for f in facts if f["name"] == label and f["answers"]), "classes")


def _label(facts: list[dict[str, Any]], rows: int) -> str:
    """Return the column that most likely holds the answers: by its name, or the last with few different values."""
    few = [f["name"] for f in facts if 2 <= f["different"] <= min(MAX_CLASSES, max(2, rows // 5))]
    by_name = _named(few, _LABELS, "") or _named([f["name"] for f in facts], _LABELS, "")
    if by_name:
        return by_name
    texts = [f["name"] for f in facts if f["kind"] == "text" and f["name"] in few]
    last = facts[-1]["name"]
    return str(last if last in few or not few else [*few, *texts][-1])


def _of_arrays(held: Content, name: str, changes: Mapping[str, Any]) -> Guess:
    arrays = held.arrays or {}
    facts: tuple[dict[str, Any], ...] = tuple(
        {
            "name": key,
            "kind": str(array.dtype),
            "shape": list(array.shape),
            "answers": _answers_in(array),
        }
        for key, array in arrays.items()
    )
    answers = [f["name"] for f in facts if f["answers"]]
    classes = [f["name"] for f in facts if f["answers"] == "classes"]
    label = str(
        changes.get("label") or _named(answers, _LABELS, next(iter(classes or answers), ""))
    )
    known = len(arrays[label]) if label in arrays and arrays[label].ndim else -1
    many = [
        key
        for key, array in arrays.items()
        if array.ndim >= 2 and array.dtype.kind in "biuf" and len(array) == known and key != label
    ]
    if not label or (not many and "inputs" not in changes):
        shapes = ", ".join(f"{f['name']} {f['shape']}" for f in facts[:8])
        raise bad(
            name,
            "does not hold samples and their labels",
            "X (n, …) of numbers and y (n,) of classes or numbers",
            shapes,
        )
    taken = tuple(changes.get("inputs") or (_named(many, _INPUTS, many[0] if many else ""),))
    first = arrays.get(str(taken[0]))
    image = first is not None and (
        first.ndim == 4 or (first.ndim == 3 and "image" in str(taken[0]).lower())
    )
    schema = Schema(
        form="arrays",
        label=label,
        inputs=tuple(map(str, taken)),
        shape="image" if image else "series",
        answers=_taken_as(facts, label),
    )
    return Guess(schema, facts, known, held.notes)


def _answers_in(array: NDArray[Any]) -> Answers | Literal[""]:
    """Say as what an array (n,) would be taken as answers; empty where it cannot hold them."""
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        return ""
    if array.dtype.kind not in "iuf":
        return "classes"
    return _answers(array.astype(np.float64), len(np.unique(array)))


def _named(keys: list[str], wanted: tuple[str, ...], otherwise: str) -> str:
    """Return the key with the first of the wanted names, in whatever case."""
    by_name = {key.lower(): key for key in reversed(keys)}
    return next((by_name[name] for name in wanted if name in by_name), otherwise)


def _unknown(schema: Schema, held: Content) -> list[Problem]:
    """Return a problem for each name that the file does not hold, or that cannot serve for what it is named for."""
    if held.form == "text":
        return []
    known = list(held.columns or held.arrays or {})
    problems = [
        Problem(
            path, "is not in the file", "one of " + ", ".join(map(repr, known[:20])), repr(key)[:80]
        )
        for path, key in [("label", schema.label), *(("inputs", key) for key in schema.inputs)]
        if key not in known
    ]
    if schema.label in schema.inputs:
        problems.append(
            Problem(
                "inputs", "holds the label, so the answer would be shown", got=repr(schema.label)
            )
        )
    if len(set(schema.inputs)) != len(schema.inputs) or not schema.inputs:
        problems.append(Problem("inputs", "names nothing, or something twice", "different names"))
    if held.arrays is not None and len(schema.inputs) > 1:
        problems.append(
            Problem("inputs", "names several arrays", "one array", str(len(schema.inputs)))
        )
    return [*problems, *_not_numbers(schema, held)]


def _not_numbers(schema: Schema, held: Content) -> Iterator[Problem]:
    """Yield what holds no numbers and should, and a unit of what is not counted."""
    for key in schema.inputs:
        column = (held.columns or {}).get(key)
        if column is not None and column.numbers is None:
            yield Problem("inputs", f"{key!r} holds text", "columns of numbers")
    answer = (held.columns or {}).get(schema.label)
    array = (held.arrays or {}).get(schema.label)
    text = (answer is not None and answer.numbers is None) or (
        array is not None and array.dtype.kind not in "biuf"
    )
    if schema.answers == "numbers" and text:
        yield Problem("answers", f"{schema.label!r} holds text", "classes", "numbers")
    if schema.answers == "classes" and schema.unit:
        yield Problem(
            "unit", "is of numbers, and the answers are classes", "none", repr(schema.unit)
        )
