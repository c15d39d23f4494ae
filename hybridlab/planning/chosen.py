"""What reports of choices made by measuring tell alike: whether anything is applied, and how busy the machine was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.hardware.others import BUSY_CORES
from hybridlab.planning.saved import Choice
from hybridlab.planning.turns import Work
from hybridlab.profiling.medians import Median


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A choice's outcome: the step as it is, and what is left to say of the step with what was chosen.

    ``ratio`` is the latter's time over the former's, turn by turn, of rounds that had no part in choosing.
    ``others_cores`` is how many cores other processes used meanwhile. What differs is measured in ``error``.
    """

    why: str
    error: float
    tolerance: float
    plain: Work
    plain_ms: Median
    ratio: Median
    others_cores: float

    @property
    def choice(self) -> Choice:
        """What was chosen; it does nothing where nothing is better."""
        raise NotImplementedError

    @property
    def applied(self) -> bool:
        """Whether anything is applied."""
        return not self.choice.empty

    @property
    def busy(self) -> bool:
        """Whether others kept the machine so busy that milliseconds are no timings; ratios still compare."""
        return self.others_cores > BUSY_CORES

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON, without what is only kept for this machine."""
        choice = self.choice
        more = {choice.called: choice.as_dict(), "applied": self.applied, "busy": self.busy}
        return {name: value for name, value in asdict(self).items() if name != "found"} | more
