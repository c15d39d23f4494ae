"""What travels along an edge: kind, symbolic shape and dtype. Free of torch, so that pages may read it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TensorKind(StrEnum):
    """The sorts of tensors that components exchange, with their shapes."""

    TOKENS = "tokens"
    """(B, L) int64"""
    SEQUENCE = "sequence"
    """(B, L, D) float"""
    IMAGE = "image"
    """(B, C, height, width) float"""
    SERIES = "series"
    """(B, L, C) float, raw values before any projection"""
    VECTOR = "vector"
    """(B, D) float"""
    LOGITS = "logits"
    """(B, N) or (B, L, N) float"""


@dataclass(frozen=True)
class TensorType:
    """Kind, symbolic shape (``"B"``, ``"L"`` or numbers) and dtype of an edge."""

    kind: TensorKind
    shape: tuple[str | int, ...]
    dtype: str = "float32"

    @property
    def features(self) -> int:
        """Features of one position: channels of an image, the last dimension otherwise."""
        size = self.shape[1] if self.kind is TensorKind.IMAGE else self.shape[-1]
        if isinstance(size, str):
            raise ValueError(f"{self} has no fixed number of features")
        return size

    def __str__(self) -> str:
        """Write the type as people do: ``sequence (B, L, 64) float32``."""
        return f"{self.kind} ({', '.join(map(str, self.shape))}) {self.dtype}"


def sequence(features: int, length: str | int = "L") -> TensorType:
    """Return the type of a sequence of ``features`` wide positions."""
    return TensorType(TensorKind.SEQUENCE, ("B", length, features))
