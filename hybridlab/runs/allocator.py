"""Settings of torch's memory allocator on an accelerator, as the one variable that torch reads them from.

torch reads ``PYTORCH_ALLOC_CONF`` once, before the first allocation, so a worker is born with the variable; the process
that starts it has none of it. Where an older name of it is set, torch 2.13 reads that one and not the new one (the
tests see it do so), so a worker gets these with the same text. Free of torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

ALLOCATOR_VARIABLE = "PYTORCH_ALLOC_CONF"
_OLDER = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_SETTINGS: dict[str, type] = {
    "expandable_segments": bool,
    "max_split_size_mb": int,
    "garbage_collection_threshold": float,
    "roundup_power2_divisions": int,
}
"""Every setting that there is here, in the order in which they are written, with the type of its value."""


def allocator_text(settings: Mapping[str, object]) -> str:
    """Return settings as torch reads them, such as ``expandable_segments:True``; nothing where none is given.

    Names that are not in the list and values of other types are left out, whatever a record says.
    """
    given = [(name, kind, settings.get(name)) for name, kind in _SETTINGS.items()]
    return ",".join(f"{name}:{value}" for name, kind, value in given if type(value) is kind)


def allocator_environment(
    spec: Mapping[str, object], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables that the worker of a run needs, by its record's ``training``; nothing for all others.

    ``environment`` is what it inherits.
    """
    training = spec.get("training")
    asked = training.get("allocator") if isinstance(training, Mapping) else None
    text = allocator_text(asked) if isinstance(asked, Mapping) else ""
    if not text:
        return {}
    return dict.fromkeys(
        (ALLOCATOR_VARIABLE, *(name for name in _OLDER if name in environment)), text
    )


def allocator_in_force(environment: Mapping[str, str] = os.environ) -> str:
    """Return the settings that torch reads in a process with these variables; nothing where there are none."""
    found = [environment[name] for name in (*_OLDER, ALLOCATOR_VARIABLE) if name in environment]
    return found[0] if found else ""
