"""Norms of queries and keys on an attention that was read without."""

from __future__ import annotations

from dataclasses import replace

from hybridlab.architecture.importers.draft import Part
from hybridlab.architecture.importers.weights import Take


def with_query_norms(part: Part, query: Take, key: Take, eps: float, *, over: str = "head") -> Part:
    """Return an attention whose queries and keys are normalised, each head apart or ``all`` together."""
    params = {**part.params, "qk_norm": True, "norm_eps": eps}
    if over != "head":
        params["qk_norm_over"] = over
    weights = {**part.weights, "body.query_norm.scale": query, "body.key_norm.scale": key}
    return replace(part, params=params, weights=weights)
