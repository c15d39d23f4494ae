"""Makes samples of a user's file, as a schema says: inputs and their answers, what is not whole left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridlab.tasks.own.reading import Content, bad, within
from hybridlab.tasks.own.schema import MAX_CLASSES, Schema, whole

MIN_SAMPLES = 20


@dataclass(frozen=True)
class Samples:
    """Inputs (n, ...) float32, labels (n,) and their names, and what is worth saying about them.

    Labels are the places of their classes, int64, or numbers, float32, which have no names.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def samples(held: Content, schema: Schema, name: str) -> Samples:
    """Return the samples of a table or of arrays; those with a missing value or label are left out.

    Raises:
        TaskError: there are too few, labels are not what the schema says, or shapes do not fit.
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
    if schema.answers == "numbers":
        return Samples(inputs, _told_apart(labels, schema.label), (), notes)
    classes, numbers = np.unique(labels, return_inverse=True)
    if not 2 <= len(classes) <= min(MAX_CLASSES, len(labels) // 2):
        raise bad(
            schema.label,
            "does not hold classes",
            f"2 to {min(MAX_CLASSES, len(labels) // 2)} different labels",
            f"{len(classes)} in {len(labels)} samples",
            "choose another label, or numbers as answers",
        )
    ordered = sorted(range(len(classes)), key=lambda i: _as_number(str(classes[i])))
    rank = np.argsort(np.array(ordered))
    names = tuple(str(classes[i]) for i in ordered)
    return Samples(inputs, rank[numbers].astype(np.int64), names, notes)


def _told_apart(numbers: NDArray[np.float64], label: str) -> NDArray[np.float32]:
    """Return numbers (n,) as float32, which must not take away how they differ."""
    if not np.ptp(numbers):
        raise bad(label, "holds the same number everywhere", "different numbers", str(numbers[0]))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        made = numbers.astype(np.float32)
    deviation = float((numbers / np.abs(numbers).max()).std() * np.abs(numbers).max())
    if not float(np.abs(made - numbers).max()) <= 1e-3 * deviation:
        raise bad(
            label,
            "does not fit into numbers of 32 bits",
            "numbers below 3e38 that differ by more than a ten-thousandth of their size",
            f"{numbers[0]:.6g}, and a deviation of {deviation:.2g}",
            "take away what all of them have in common, or count in another unit",
        )
    return made


def _as_number(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


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
    answer = columns[schema.label]
    wanted = answer.numbers if schema.answers == "numbers" else np.array(answer.names(), np.str_)
    assert wanted is not None  # text as numbers is refused before
    labels: NDArray[Any] = wanted[whole]
    inputs, labels, overflowed = _finite(inputs[..., None], labels)
    left = int((~whole).sum()) + overflowed
    return inputs, labels, (f"{left} rows with missing values are left out.",) if left else ()


def _pair(
    arrays: Mapping[str, NDArray[Any]], schema: Schema, name: str
) -> tuple[NDArray[np.float32], NDArray[Any], tuple[str, ...]]:
    x, y = arrays[schema.inputs[0]], arrays[schema.label]
    counted = schema.answers == "numbers"
    as_classes = y.dtype.kind != "f" or whole(y)
    if y.ndim != 1 or y.dtype.kind not in "biufUS" or not (counted or as_classes):
        raise bad(
            schema.label,
            f"does not hold {schema.answers}",
            "numbers (n,)" if counted else "whole numbers or text (n,)",
            f"{y.dtype} {y.shape}",
            "" if y.ndim != 1 else "choose numbers as answers",
        )
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) != len(y):
        raise bad(
            schema.inputs[0],
            "does not hold a sample for each label",
            f"numbers ({len(y)}, …)",
            f"{x.dtype} {x.shape}",
        )
    given = len(y)
    if y.dtype.kind == "f":  # a sample without an answer is left out, as a row of a table is
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
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
    if not fits or 0 in x.shape[1:]:
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
        y.astype(np.float64)
        if counted
        else y.astype(np.int64).astype(np.str_)
        if y.dtype.kind in "biuf"
        else np.char.decode(y, "utf-8", "replace")
        if y.dtype.kind == "S"
        else y
    )
    x, labels, _ = _finite(np.ascontiguousarray(x), labels)
    left = given - len(labels)
    return (
        x,
        labels,
        (f"{left} samples with values that are not finite are left out.",) if left else (),
    )


def _finite(
    x: NDArray[np.float32], labels: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any], int]:
    good = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    return x[good], labels[good], int((~good).sum())
