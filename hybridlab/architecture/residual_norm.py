"""The norm that residuals get: a component of the palette, with the architecture's eps where it has one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import ComponentInfo, Kind, nearest
from hybridlab.components.registry import palette
from hybridlab.errors import Problem


@functools.lru_cache(maxsize=64)
def norm_params(norm: ComponentInfo, eps: float | None) -> Any:
    """Return the parameters of a residual's norm: its defaults, but for an eps that was given."""
    known = eps is not None and "eps" in norm.cls.Params.model_fields
    return norm.cls.Params.model_validate({"eps": eps} if known else {})


def norm_problems(architecture: Architecture) -> Iterator[Problem]:
    """Yield what is wrong with the architecture's norm and its eps."""
    name = architecture.norm
    norms = [info.name for info in palette().values() if info.kind is Kind.NORM]
    if name not in norms:
        yield Problem(
            "norm",
            "there is no such norm",
            "a norm of the palette",
            repr(name),
            nearest(name, norms),
        )
    elif architecture.norm_eps and "eps" not in palette()[name].cls.Params.model_fields:
        yield Problem("norm_eps", f"{name} adds nothing before a root", fix="remove norm_eps")
