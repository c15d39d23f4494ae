"""What a finding of a run's gradient flow is: a sentence, its numbers, the components, and remedies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hybridlab.training.remedies import Remedy

Kind = Literal[
    "vanishing",
    "exploding",
    "uneven",
    "starving",
    "cut off",
    "dead",
    "saturated",
    "collapsed",
    "crowded",
    "restless",
    "still",
]
Severity = Literal["warning", "hint"]


@dataclass(frozen=True)
class FlowFinding:
    """One thing that the flow shows: ``evidence`` holds its numbers, ``components`` are paths in running order."""

    kind: Kind
    sentence: str
    severity: Severity
    components: tuple[str, ...]
    quantity: str
    """What shows it, a name of ``flow.QUANTITIES``."""
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "severity": self.severity,
            "components": list(self.components),
            "quantity": self.quantity,
            "evidence": dict(self.evidence),
            "remedies": [remedy.as_dict() for remedy in self.remedies],
        }
