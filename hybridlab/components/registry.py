"""Finds every component by importing the files beside this one."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import hybridlab.components
from hybridlab.components.base import BuildContext, ComponentInfo, Kind, nearest, registered
from hybridlab.components.types import sequence
from hybridlab.errors import Problem, SpecError


@functools.cache
def palette() -> Mapping[str, ComponentInfo]:
    """Return every component by name, grouped by kind in palette order."""
    for module in pkgutil.walk_packages(
        hybridlab.components.__path__, hybridlab.components.__name__ + "."
    ):
        importlib.import_module(module.name)
    order = list(Kind)
    entries = sorted(
        registered().values(), key=lambda info: (order.index(info.kind), info.title.lower())
    )
    return MappingProxyType({info.name: info for info in entries})


def lookup(name: str, path: str = "use") -> ComponentInfo:
    """Return a component's entry.

    Raises:
        SpecError: there is no component of that name; the message has the nearest one.
    """
    try:
        return palette()[name]
    except KeyError:
        raise SpecError(
            Problem(
                path,
                "unknown component",
                "a component of the palette",
                repr(name),
                nearest(name, list(palette())),
            )
        ) from None


def catalogue(width: int = 64) -> list[dict[str, Any]]:
    """Return the palette as plain JSON for forms, the command line and pages that do not import torch.

    ``state_bytes_per_token`` and ``state_bytes`` are those of the default parameters at the given width, in bytes.
    """
    entries = []
    for info in palette().values():
        entry: dict[str, Any] = {
            "name": info.name,
            "kind": str(info.kind),
            "title": info.title,
            "summary": info.summary,
            "cost": info.cost,
            "paper": info.paper,
            "accepts": sorted(info.cls.accepts),
            "min_inputs": info.cls.min_inputs,
            "max_inputs": info.cls.max_inputs,
            "params_schema": info.cls.Params.model_json_schema(),
            "state_bytes_per_token": None,
            "state_bytes": None,
        }
        required = [
            name for name, item in info.cls.Params.model_fields.items() if item.is_required()
        ]
        if not required:
            params = info.cls.Params()
            lengths = info.cls.input_lengths(params)
            context = BuildContext(tuple(sequence(width, length) for length in lengths), width)
            entry["state_bytes_per_token"] = info.cls.state_bytes_per_token(params, context)
            entry["state_bytes"] = info.cls.state_bytes(params, context)
        entries.append(entry)
    return entries
