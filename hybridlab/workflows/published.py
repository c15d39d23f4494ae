"""Published models read for the pages: a config.json or a layer pattern, at its own size or in small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import dump
from hybridlab.architecture.importers import huggingface, megatron
from hybridlab.architecture.shrink import Sizes, shrink
from hybridlab.errors import Problem, SpecError


def imported(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text, name, parameters and notes of ``config`` (JSON text) or ``pattern``, in small where ``small``.

    Raises:
        SpecError: neither can be read as an architecture; every reason at once.
    """
    if "config" in args:
        try:
            content = json.loads(str(args["config"]))
        except (ValueError, RecursionError) as error:
            raise SpecError(Problem("", f"this is not JSON: {str(error)[:200]}")) from None
        found = huggingface.read(content)
        architecture, notes = found.architecture, list(found.notes)
    else:
        architecture, notes = megatron.read(str(args["pattern"]))
    full = count_parameters(architecture)
    if args.get("small"):
        architecture = shrink(architecture, Sizes())
    return {
        "text": dump(architecture),
        "name": architecture.name,
        "params_published": full,
        "params": count_parameters(architecture),
        "notes": notes,
    }


def families() -> dict[str, str]:
    """Return the families of models that can be read, with their papers."""
    return {name: family.source for name, family in huggingface.families().items()}
