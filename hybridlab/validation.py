"""Turns pydantic's errors into problems that name a path, what was expected, what came, and a fix."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from hybridlab.errors import Problem

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "finite_number": "a finite number",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
}
_COMPARISONS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def join_path(*parts: str | int) -> str:
    """Join keys and list positions the way people write them: ``nodes[3].heads``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{part}" if text else part
    return text


def shown(value: object, limit: int = 60) -> str:
    """Write a value as it stood in the file, cut to a length that fits into a sentence."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "infinity", -math.inf: "-infinity"}.get(value, "NaN")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def problems_from(
    error: ValidationError, prefix: str = "", known: Sequence[str] = ()
) -> list[Problem]:
    """Return every error of a failed validation as a problem; ``known`` are keys to suggest for unknown top ones."""
    return [
        _problem(
            item,
            join_path(prefix, *_location(item["loc"])),
            known if len(item["loc"]) == 1 else (),
        )
        for item in error.errors(include_url=False, include_context=True)
    ]


def _location(parts: Iterable[str | int]) -> list[str | int]:
    return [part for part in parts if not (isinstance(part, str) and part.startswith("function-"))]


def _problem(item: Any, path: str, known: Sequence[str]) -> Problem:
    kind, got, context = item["type"], shown(item["input"]), item.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(item["loc"][-1])
        close = difflib.get_close_matches(key, known, n=1)
        fix = f"did you mean {close[0]!r}?" if close else ""
        expected = "one of " + ", ".join(known) if known else ""
        return Problem(path, "unknown key", expected, repr(key), fix or "remove it")
    if kind == "missing":
        return Problem(path, "is missing", "a value", "nothing", "add it")
    if kind in _COMPARISONS:
        key, words = _COMPARISONS[kind]
        return Problem(path, "is out of range", f"{words} {context[key]:g}", got)
    if kind in ("literal_error", "enum"):
        return Problem(path, "is not one of the choices", str(context["expected"]), got)
    if kind in ("value_error", "assertion_error"):
        whole = isinstance(item["input"], dict)  # the sentence speaks of the whole node already
        return Problem(path, str(context.get("error", item["msg"])), "", "" if whole else got)
    if kind == "string_pattern_mismatch":
        return Problem(path, "has characters that are not allowed here", "", got)
    if kind in ("too_long", "string_too_long", "too_short", "string_too_short"):
        bound = context.get("max_length", context.get("min_length"))
        words = "at most" if "long" in kind else "at least"
        return Problem(path, "has the wrong length", f"{words} {bound}", got)
    if kind in _EXPECTED:
        return Problem(path, "has the wrong type", _EXPECTED[kind], got)
    return Problem(path, str(item["msg"]).removeprefix("Input ").lower(), "", got)
