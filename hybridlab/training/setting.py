"""How a setting of a training is declared: its meaning, its default, its unit and its limits. Free of torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def setting(help: str, default: Any, unit: str = "", **limits: Any) -> Any:
    """Return a field of a settings model, which forms, YAML and their help are made from."""
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default=default, description=help, json_schema_extra=extra, **limits)
