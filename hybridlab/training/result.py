"""What came out of a training. Free of torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

CHECKPOINTS, WEIGHTS, BEST, RESULT = (
    "checkpoints",
    "weights.safetensors",
    "best.safetensors",
    "result.json",
)
"""What a training leaves in its folder."""
State = Literal["done", "cancelled", "interrupted"]
StopReason = Literal["steps", "target", "patience", "cancel", "interrupt"]


@dataclass(frozen=True)
class TrainResult:
    """The end of a training.

    ``metrics`` holds the last validation metrics and, where it is done, the test metrics of the final weights, computed
    once. ``seconds`` is time spent training and scoring, over all resumptions. ``best`` names the step and value of the
    best validation, whose weights are kept in ``best.safetensors``.
    """

    state: State
    stop_reason: StopReason
    steps: int
    seconds: float
    metrics: dict[str, float]
    weights_sha256: str
    best: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return asdict(self)
