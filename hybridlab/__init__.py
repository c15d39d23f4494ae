"""HybridLab: design, predict, train, measure, optimise and search hybrid neural architectures on one graph.

``import hybridlab as hl``; names are imported on first use, so that nothing heavy is loaded before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridlab.architecture.model import build
    from hybridlab.architecture.spec import Architecture
    from hybridlab.errors import HybridLabError, Problem, SpecError
    from hybridlab.notebook import compare, list_runs, load, predict, presets, profile, show, train
    from hybridlab.notebook_choices import buckets, caches, fuse, precision, tune
    from hybridlab.notebook_plan import fits, plan
    from hybridlab.notebook_search import run_search

__version__ = "0.1.0"

_ROOMS = {
    "Architecture": "architecture.spec",
    "HybridLabError": "errors",
    "Problem": "errors",
    "SpecError": "errors",
    "buckets": "notebook_choices",
    "build": "architecture.model",
    "caches": "notebook_choices",
    "compare": "notebook",
    "fits": "notebook_plan",
    "fuse": "notebook_choices",
    "list_runs": "notebook",
    "load": "notebook",
    "plan": "notebook_plan",
    "precision": "notebook_choices",
    "predict": "notebook",
    "presets": "notebook",
    "profile": "notebook",
    "run_search": "notebook_search",
    "show": "notebook",
    "train": "notebook",
    "tune": "notebook_choices",
}
__all__ = [
    "Architecture",
    "HybridLabError",
    "Problem",
    "SpecError",
    "__version__",
    "buckets",
    "build",
    "caches",
    "compare",
    "fits",
    "fuse",
    "list_runs",
    "load",
    "plan",
    "precision",
    "predict",
    "presets",
    "profile",
    "run_search",
    "show",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted(__all__)
