"""Lengths as types write them: a number, ``"L"``, or a share of it such as ``"L/4"`` or ``"3/2*L"``.

Shares are rounded up, so that dividing by 2 twice is dividing by 4 at every length. Free of torch, as types are.
"""

from __future__ import annotations

from fractions import Fraction


def share_of(length: str) -> Fraction:
    """Return which share of L a symbolic length is: 1/4 for ``"L/4"``."""
    return Fraction(length.replace("L", "1", 1) if length[0] == "L" else length.replace("*L", ""))


def written(share: Fraction) -> str:
    """Write a share of L as types do."""
    if share == 1:
        return "L"
    return f"L/{share.denominator}" if share.numerator == 1 else f"{share}*L"


def divided(length: str | int, by: int) -> str | int:
    """Return a length divided by a whole number, rounded up."""
    return -(-length // by) if isinstance(length, int) else written(share_of(length) / by)


def concrete(length: str | int, total: int) -> int:
    """Return a length in numbers where L is ``total``."""
    if isinstance(length, int):
        return length
    share = share_of(length)
    return -(-total * share.numerator // share.denominator)
