"""Reads the JSON schema of a parameter model: what each field is, may be, and means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["integer", "number", "boolean", "choice", "list", "text"]


@dataclass(frozen=True)
class Field:
    """One parameter: its kind, limits, choices, unit, default and meaning."""

    name: str
    kind: Kind
    default: Any
    required: bool
    optional: bool
    """Whether it may be empty (null)."""
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    title: str = ""
    """What people read instead of the name, where that says too little."""

    @property
    def label(self) -> str:
        """The name as people read it, with its unit."""
        words = self.title or self.name.replace("_", " ")
        words = words[:1].upper() + words[1:]
        return f"{words} ({self.unit})" if self.unit and self.unit != words.lower() else words

    @property
    def explanation(self) -> str:
        """Meaning, range and default as one text."""
        parts = [self.help.strip()]
        if said := self.range:
            parts.append(f"Allowed: {said}.")
        if not self.required:
            parts.append(f"Default: {shown(self.default)}.")
        return " ".join(part for part in parts if part)

    @property
    def range(self) -> str:
        """The limits in words; empty where there are none."""
        parts = []
        if self.minimum is not None:
            parts.append(f"at least {self.minimum:,g}")
        if self.above is not None:
            parts.append(f"more than {self.above:,g}")
        if self.maximum is not None and self.maximum < 2**53:
            parts.append(f"at most {self.maximum:,g}")
        if self.below is not None:
            parts.append(f"less than {self.below:,g}")
        if self.choices:
            parts.append(" or ".join(str(choice) for choice in self.choices))
        return ", ".join(parts)

    def refusal(self, value: Any) -> str:
        """Say why a value cannot be taken; empty where it can. Pages ask on the server what browsers only promise."""
        if value is None:
            return "" if self.optional else f"{self.label} needs a value"
        if self.kind == "choice":
            return "" if value in self.choices else f"{self.label} must be {self.range}"
        if self.kind == "boolean":
            return "" if isinstance(value, bool) else f"{self.label} must be on or off"
        if self.kind in ("integer", "number"):
            return self._refused_number(value)
        wanted = list if self.kind == "list" else str
        return (
            ""
            if isinstance(value, wanted)
            else f"{self.label} must be {'a list' if wanted is list else 'text'}"
        )

    def _refused_number(self, value: Any) -> str:
        whole = self.kind == "integer"
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else (int, float))
            or not math.isfinite(value)
        ):
            return f"{self.label} must be a {'whole ' if self.kind == 'integer' else ''}number"
        low = self.minimum is not None and value < self.minimum
        high = self.maximum is not None and value > self.maximum
        edge = (self.above is not None and value <= self.above) or (
            self.below is not None and value >= self.below
        )
        return f"{self.label} must be {self.range}" if low or high or edge else ""


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """Return the fields of a pydantic model's JSON schema, in the order of the model."""
    defs = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    return [
        _field(name, item, name in required, defs)
        for name, item in schema.get("properties", {}).items()
    ]


def shown(value: Any) -> str:
    """Write a value the way a person would."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value)
    return str(value)


def _field(name: str, item: Mapping[str, Any], required: bool, defs: Mapping[str, Any]) -> Field:
    item = _resolved(item, defs)
    branches = [_resolved(branch, defs) for branch in item.get("anyOf", ())]
    optional = any(branch.get("type") == "null" for branch in branches)
    real = [branch for branch in branches if branch.get("type") != "null"]
    body = {**item, **(_widest(real) if real else {})}
    choices = (
        tuple(body["enum"]) if "enum" in body else ((body["const"],) if "const" in body else ())
    )
    named = [branch for branch in real if "enum" in branch or "const" in branch]
    if named and len(named) == len(real):
        choices = tuple(
            choice for branch in named for choice in branch.get("enum", [branch.get("const")])
        )
    return Field(
        name,
        "choice" if choices else _kind(body),
        item.get("default"),
        required,
        optional,
        str(item.get("description", "")),
        str(item.get("unit", "")),
        body.get("minimum"),
        body.get("maximum"),
        body.get("exclusiveMinimum"),
        body.get("exclusiveMaximum"),
        choices,
    )


def _resolved(item: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Follow a reference into the schema's definitions."""
    reference = item.get("$ref") or next((part.get("$ref") for part in item.get("allOf", ())), None)
    if reference:
        return {**defs.get(str(reference).rpartition("/")[2], {}), **item}
    return dict(item)


def _widest(branches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the branch that takes the most: a number rather than an integer."""
    return max(branches, key=lambda branch: branch.get("type") == "number")


def _kind(body: Mapping[str, Any]) -> Kind:
    kinds: dict[str, Kind] = {
        "integer": "integer",
        "number": "number",
        "boolean": "boolean",
        "array": "list",
    }
    return kinds.get(str(body.get("type")), "text")
