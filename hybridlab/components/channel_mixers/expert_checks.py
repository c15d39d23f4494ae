"""What ranges alone cannot say of a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridlab.components.base import must_divide
from hybridlab.errors import Problem

if TYPE_CHECKING:
    from hybridlab.components.channel_mixers.moe import MixtureOfExperts


def check_experts(params: MixtureOfExperts.Params) -> Iterator[Problem]:
    """Yield a problem where more experts are chosen than there are, or a setting has no effect."""
    if params.top_k > params.experts:
        yield Problem(
            "top_k",
            "cannot choose more experts than there are",
            f"at most {params.experts}",
            str(params.top_k),
            f"lower top_k to {params.experts} or raise experts",
        )
    yield from _check_groups(params)
    if params.shared_gate and not params.shared_ratio:
        yield Problem(
            "shared_gate",
            "there is no shared layer to open",
            fix="set shared_ratio, or leave shared_gate out",
        )
    if params.routing == "expert_choice" and params.weights == "normalised":
        yield Problem(
            "weights",
            "with expert_choice a position does not choose, so nothing sums to one",
            "auto or raw",
            "normalised",
            "set weights: raw",
        )


def _check_groups(params: MixtureOfExperts.Params) -> Iterator[Problem]:
    """Yield a problem where groups do not divide the experts or hold too few of them."""
    yield from must_divide("groups", params.groups, params.experts, "experts")
    if params.top_groups > params.groups:
        yield Problem(
            "top_groups",
            "cannot choose more groups than there are",
            f"at most {params.groups}",
            str(params.top_groups),
            f"lower top_groups to {params.groups} or raise groups",
        )
    if params.top_groups > params.groups or params.experts % params.groups:
        return
    open_to_one = params.top_groups * params.experts // params.groups
    if open_to_one < params.top_k <= params.experts:
        yield Problem(
            "top_k",
            "the groups that a position may choose from have fewer experts",
            f"at most {open_to_one}",
            str(params.top_k),
            f"lower top_k to {open_to_one} or raise top_groups",
        )
    if params.groups > 1 and params.routing == "expert_choice":
        yield Problem(
            "groups",
            "with expert_choice a position does not choose, so groups have no meaning",
            "1",
            str(params.groups),
            "set groups: 1",
        )
