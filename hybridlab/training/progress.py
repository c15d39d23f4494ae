"""How far a training has come: all that a checkpoint needs beside weights, optimiser and random states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hybridlab.training.result import StopReason


@dataclass
class Progress:
    """Counters of a training; the step is also the position in the data."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last validation metrics."""
    unscored: bool = False
    """Whether the last update is still to be followed by a validation that a wish to stop cut short."""
    rollbacks: int = 0
    """How often the training went back to an earlier checkpoint by itself."""
    rate_factor: float = 1.0
    """What all learning rates are multiplied with since then."""
    recent: list[float] = field(default_factory=list)
    """What the watch for spikes needs to go on."""
    ended: StopReason | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Progress:
        """Read what ``as_dict`` returned."""
        return cls(**content)
