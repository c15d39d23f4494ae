"""Whether the branches of a merge fit together."""

from __future__ import annotations

from collections.abc import Iterator

from hybridlab.components.types import TensorType
from hybridlab.errors import Problem


def must_agree(inputs: tuple[TensorType, ...], *, features: bool) -> Iterator[Problem]:
    """Yield a problem for each branch whose shape differs from the first one's.

    Args:
        inputs: types of the branches, in order.
        features: whether the last dimension must agree too (not for a concatenation).
    """
    first = inputs[0]
    kept = len(first.shape) if features else -1
    for position, other in enumerate(inputs[1:], start=1):
        if other.kind is not first.kind or other.shape[:kept] != first.shape[:kept]:
            yield Problem(
                f"inputs[{position}]",
                "the branches of a merge do not have the same shape",
                str(first) if features else f"{first} up to its features",
                str(other),
                "give every branch the same width and length, or merge with concat"
                if features and other.shape[:-1] == first.shape[:-1]
                else "take the branches from places of the same length",
            )
