"""Guesses what a user's file asks of a model, as plain data that the user can correct, and makes samples of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.own.reading import Content, Form, bad, read, within
from hybridlab.validation import problems_from

MAX_CLASSES = 1_000
MIN_SAMPLES = 20
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


@dataclass(frozen=True)
class Guess:
    """A schema, and what it is a guess from."""

    schema: Schema
    columns: tuple[dict[str, Any], ...]
    """Name, kind, different values, missing values and an example of every column; name, shape and type of arrays."""
    rows: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "schema": self.schema.model_dump(mode="json")}


@dataclass(frozen=True)
class Samples:
    """Inputs (n, ...) float32, labels (n,) and their names, and what is worth saying about them."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


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


def samples(held: Content, schema: Schema, name: str) -> Samples:
    """Return the samples of a table or of arrays; those with a missing value or label are left out.

    Raises:
        TaskError: there are too few, labels are not classes, or shapes do not fit.
    """
    if held.columns is not None:
        inputs, labels, notes = _table(held, schema)
    else:
        inputs, labels, notes = _pair(held.arrays or {}, schema, name)
    within(name, len(inputs), 1, inputs.size)
    if len(inputs) < MIN_SAMPLES:
        raise bad(
            name, "holds too few complete samples", f"at least {MIN_SAMPLES}", str(len(inputs))
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    if not 2 <= len(classes) <= min(MAX_CLASSES, len(labels) // 2):
        raise bad(
            schema.label,
            "does not hold classes",
            f"2 to {min(MAX_CLASSES, len(labels) // 2)} different labels",
            f"{len(classes)} in {len(labels)} samples",
            "choose another label; numbers are not predicted yet",
        )
    ordered = sorted(range(len(classes)), key=lambda i: _as_number(str(classes[i])))
    rank = np.argsort(np.array(ordered))
    names = tuple(str(classes[i]) for i in ordered)
    return Samples(inputs, rank[numbers].astype(np.int64), names, notes)


def _as_number(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


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
                "different": len(set(values)) - bool(missing),
                "missing": missing,
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
        Schema(form="rows", label=label, inputs=taken), tuple(facts), rows, (*held.notes, *notes)
    )


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
    facts = tuple(
        {"name": key, "kind": str(array.dtype), "shape": list(array.shape)}
        for key, array in arrays.items()
    )
    answers = [key for key, array in arrays.items() if _is_labels(array)]
    label = str(changes.get("label") or _named(answers, _LABELS, answers[0] if answers else ""))
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
            "X (n, …) of numbers and y (n,) of classes",
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
    )
    return Guess(schema, facts, known, held.notes)


def _is_labels(array: NDArray[Any]) -> bool:
    whole = array.dtype.kind in "biuUS" or (
        array.dtype.kind == "f" and bool((array % 1 == 0).all())
    )
    return array.ndim == 1 and whole


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
    for key in schema.inputs:
        column = (held.columns or {}).get(key)
        if column is not None and column.numbers is None:
            problems.append(Problem("inputs", f"{key!r} holds text", "columns of numbers"))
    return problems


def _table(
    held: Content, schema: Schema
) -> tuple[NDArray[np.float32], NDArray[Any], tuple[str, ...]]:
    columns = held.columns or {}
    whole = ~columns[schema.label].missing
    for key in schema.inputs:
        whole &= ~columns[key].missing
    read_ = [columns[key].numbers for key in schema.inputs]
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is left out below
        inputs = np.stack([x for x in read_ if x is not None], axis=1)[whole].astype(np.float32)
    labels = np.array(columns[schema.label].names(), dtype=np.str_)[whole]
    inputs, labels, overflowed = _finite(inputs[..., None], labels)
    left = int((~whole).sum()) + overflowed
    return inputs, labels, (f"{left} rows with missing values are left out.",) if left else ()


def _pair(
    arrays: Mapping[str, NDArray[Any]], schema: Schema, name: str
) -> tuple[NDArray[np.float32], NDArray[Any], tuple[str, ...]]:
    x, y = arrays[schema.inputs[0]], arrays[schema.label]
    if not _is_labels(y):
        raise bad(
            schema.label,
            "does not hold classes",
            "whole numbers or text (n,)",
            f"{y.dtype} {y.shape}",
        )
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) != len(y):
        raise bad(
            schema.inputs[0],
            "does not hold a sample for each label",
            f"numbers ({len(y)}, …)",
            f"{x.dtype} {x.shape}",
        )
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if schema.shape == "image":
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
            x = np.moveaxis(x, 3, 1)
        fits = x.ndim == 4
    else:
        x = x[..., None] if x.ndim == 2 else x
        fits = x.ndim == 3
    if not fits or 0 in x.shape:
        expected = (
            "(n, height, width) or (n, C, height, width)"
            if schema.shape == "image"
            else "(n, L) or (n, L, C)"
        )
        raise bad(
            schema.inputs[0],
            f"has not the shape of {schema.shape}s",
            expected,
            str(arrays[schema.inputs[0]].shape),
        )
    labels = (
        y.astype(np.int64).astype(np.str_)
        if y.dtype.kind in "biuf"
        else np.char.decode(y, "utf-8", "replace")
        if y.dtype.kind == "S"
        else y
    )
    x, labels, left = _finite(np.ascontiguousarray(x), labels)
    return (
        x,
        labels,
        (f"{left} samples with values that are not finite are left out.",) if left else (),
    )


def _finite(
    x: NDArray[np.float32], labels: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any], int]:
    good = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    return x[good], labels[good], int((~good).sum())
