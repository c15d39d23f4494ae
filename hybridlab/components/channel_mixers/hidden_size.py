"""How many hidden features a channel mixer has."""

from __future__ import annotations


def hidden_size(ratio: float, width: int) -> int:
    """Return ``ratio`` x ``width`` rounded to the nearest multiple of 8, at least 8."""
    return max(8, 8 * round(ratio * width / 8))
