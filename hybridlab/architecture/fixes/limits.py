"""What a parameter may be, read from its JSON schema, and the allowed value nearest to a wrong one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.fixes.spot import Entries, Spot
from hybridlab.architecture.spec import MAX_RANK, MAX_REPEAT, Architecture, Node, Residual

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Limits:
    """A parameter's kind, range or choices, and default."""

    kind: str
    """``integer``, ``number``, ``boolean``, ``string`` or ``array``, as in JSON schema."""
    default: Any = None
    required: bool = False
    optional: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()

    def fits(self, value: Any) -> bool:
        """Say whether a value is allowed."""
        if value is None:
            return self.optional
        if self.choices:
            return value in self.choices
        if self.kind in ("integer", "number"):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole and not (self.kind == "number" and isinstance(value, float)):
                return False
            return math.isfinite(value) and self._inside(value)
        types = {"boolean": bool, "string": str, "array": list}
        return isinstance(value, types.get(self.kind, object))

    def _inside(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def nearest(self, value: Any) -> Any:
        """Return the allowed value nearest to what was meant; None where there is none to name."""
        if self.choices:
            words = {str(choice).lower(): choice for choice in self.choices}
            close = difflib.get_close_matches(str(value).lower(), list(words), n=1, cutoff=0.5)
            return words[close[0]] if close else None
        if self.kind == "boolean":
            word = str(value).strip().lower()
            return True if word in _TRUE else False if word in _FALSE else None
        if self.kind in ("integer", "number"):
            number = self._clamped(_number(value))
            return number if self.fits(number) and number is not None else None
        return None

    def _clamped(self, number: float | None) -> float | None:
        if number is None:
            return None
        whole = self.kind == "integer"
        low = self.above + 1 if whole and self.above is not None else self.low
        high = self.below - 1 if whole and self.below is not None else self.high
        if low is not None and number < low:
            number = low
        if high is not None and number > high:
            number = high
        if not math.isfinite(number):
            return None
        return round(number) if whole else number

    def filler(self) -> Any:
        """Return a value for a parameter that has no default."""
        if self.choices:
            return self.choices[0]
        return {"boolean": False, "string": "x"}.get(self.kind, max(int(self.low or 1), 10))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return None if value != value else value
    if not isinstance(value, str) or len(value) > 40:
        return None
    for kind in (int, float):
        try:
            return kind(value.strip().replace(",", ""))
        except ValueError:
            continue
    return None


_NODE: dict[str, Limits] = {
    "repeat": Limits("integer", 1, low=1, high=MAX_REPEAT),
    "tie": Limits("boolean", False),
    "lora": Limits("integer", None, optional=True, low=1, high=MAX_RANK),
    "residual": Limits("string", None, optional=True, choices=tuple(str(r) for r in Residual)),
}
_ARCHITECTURE: dict[str, Limits] = {
    "width": Limits("integer", Architecture.model_fields["width"].default, low=1, high=65_536),
}
assert set(_NODE) <= set(Node.model_fields)


def limits_of(spot: Spot, entries: Entries) -> Limits | None:
    """Return the limits of the key at a place; None where it is no parameter."""
    if not spot.path:
        return _ARCHITECTURE.get(spot.key)
    if spot.key in _NODE:
        return _NODE[spot.key]
    use = spot.node.get("use") if isinstance(spot.node, dict) else None
    return parameters(entries, use).get(spot.key)


def parameters(entries: Entries, use: Any) -> dict[str, Limits]:
    """Return the limits of every parameter of a component; empty where the palette does not know it."""
    entry = entries.get(use) if isinstance(use, str) else None
    if entry is None:
        return {}
    schema = entry["params_schema"]
    required = set(schema.get("required", ()))
    return {
        name: _limits(item, name in required, schema.get("$defs", {}))
        for name, item in schema.get("properties", {}).items()
    }


def _limits(item: Mapping[str, Any], required: bool, defs: Mapping[str, Any]) -> Limits:
    item = _resolved(item, defs)
    branches = [_resolved(branch, defs) for branch in item.get("anyOf", ())]
    optional = any(branch.get("type") == "null" for branch in branches)
    real = [branch for branch in branches if branch.get("type") != "null"]
    body = {**item, **(real[0] if real else {})}
    return Limits(
        str(body.get("type", "string")),
        item.get("default"),
        required,
        optional,
        body.get("minimum"),
        body.get("maximum"),
        body.get("exclusiveMinimum"),
        body.get("exclusiveMaximum"),
        tuple(body["enum"]) if "enum" in body else (),
    )


def _resolved(item: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    reference = item.get("$ref")
    return {**defs.get(str(reference).rpartition("/")[2], {}), **item} if reference else dict(item)
