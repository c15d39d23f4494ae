"""Experts beside a shared layer that works on every position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybridlab.architecture.importers.draft import Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.parts import ratio
from hybridlab.architecture.importers.weights import Take, first_of, joined


def beside_shared(
    config: Fields,
    part: Part,
    *,
    hidden: int,
    shared: int,
    shared_field: str,
    at: tuple[str, ...],
    normalised: bool,
    params: dict[str, Any] | None = None,
) -> Part:
    """Return experts of a size of their own, and a shared layer in the same node.

    ``hidden`` and ``shared`` are the hidden features of an expert (``moe_intermediate_size``) and of the shared layer,
    whose maps stand at one of ``at``, newest spelling first; ``normalised`` says whether the weights of the chosen
    experts sum to one.
    """

    def either(*names: str) -> Take:
        return first_of(*(joined(*(f"{place}{name}.weight" for name in names)) for place in at))

    found = {
        **part.params,
        "ratio": ratio(config, hidden, "moe_intermediate_size"),
        "shared_ratio": ratio(config, shared, shared_field),
    }
    found.pop("weights", None)
    if normalised != (found["top_k"] > 1):  # what "auto" does
        found["weights"] = "normalised" if normalised else "raw"
    weights = {
        **part.weights,
        "body.shared_in.weight": either("gate_proj", "up_proj"),
        "body.shared_out.weight": either("down_proj"),
    }
    return replace(part, params=found | (params or {}), weights=weights)
