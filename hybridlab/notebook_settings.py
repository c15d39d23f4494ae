"""Settings as a notebook gives them, with what its other cells found among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain data: what ``hl.plan``, ``hl.fuse`` and their like found stands for what they chose."""
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    for name in ("as_setting", "as_dict"):
        if callable(written := getattr(value, name, None)):
            return written()
    return value
