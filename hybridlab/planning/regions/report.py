"""What compiling regions brings, as measured: what runs, pages and scripts read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hybridlab.errors import Problem, RunError
from hybridlab.hardware.others import BUSY_CORES
from hybridlab.planning.regions.record import Regions
from hybridlab.planning.turns import Work
from hybridlab.profiling.medians import Median

BYTES = (
    "bytes before are those that each operator reads and writes; bytes after are a lower bound, not measured: each "
    "library call's own, and beside them every value once that enters or leaves what is fused"
)
"""What bytes before and after are; PyTorch's compiler counts none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kernels(_Frozen):
    """What a region starts and moves: kernels, and bytes read and written (see ``BYTES``)."""

    kernels: int
    moved_bytes: int


class Break(_Frozen):
    """Why a region is no single graph, and how often."""

    why: str
    times: int


class Judged(_Frozen):
    """One region, in one or more places that are alike: what it does plain and compiled, and whether it is kept.

    ``chained_bytes`` is what element-wise operators and small reductions in a row move, ``saved_bytes`` what of it one
    kernel for each row need not move. ``ratio`` is compiled over plain of the region alone, turn by turn.
    """

    name: str
    paths: tuple[str, ...]
    kept: bool = False
    why: str
    plain: Kernels
    chained_bytes: int
    saved_bytes: int
    compiled: Kernels | None = None
    graphs: int = 0
    breaks: tuple[Break, ...] = ()
    compile_s: float | None = None
    error: float | None = None
    ratio: Median | None = None

    @property
    def share(self) -> float:
        """The part of a region's bytes that rows of element-wise work move."""
        return self.chained_bytes / self.plain.moved_bytes if self.plain.moved_bytes else 0.0


class NotTried(_Frozen):
    """A component that is not compiled, by its paths, and why."""

    name: str
    paths: tuple[str, ...]
    why: str


class RegionsReport(_Frozen):
    """What is compiled and what not; ``regions`` is empty where nothing is faster.

    ``ratio`` is compiled over plain of the whole step, turn by turn, in rounds that had no part in choosing.
    ``others_cores`` is how many cores other processes used meanwhile. ``compiled`` counts kernels and, for bytes, the
    lower bound of ``BYTES``.
    """

    version: Literal[1] = 1
    regions: Regions
    why: str
    judged: tuple[Judged, ...]
    refused: tuple[NotTried, ...]
    error: float
    tolerance: float
    plain: Work
    compiled: Work
    plain_ms: Median
    compiled_ms: Median
    ratio: Median
    others_cores: float
    torch: str = ""

    @property
    def applied(self) -> bool:
        """Whether anything is compiled."""
        return not self.regions.empty

    @property
    def busy(self) -> bool:
        """Whether others kept the machine so busy that milliseconds are no timings; ratios still compare."""
        return self.others_cores > BUSY_CORES

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        more = {"applied": self.applied, "busy": self.busy, "bytes_are": BYTES}
        return self.model_dump(mode="json") | more

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` returned.

        Raises:
            RunError: it is not that.
        """
        derived = ("applied", "busy", "bytes_are")
        try:
            return cls.model_validate({k: v for k, v in content.items() if k not in derived})
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise RunError(Problem(where, "is not of compiled regions")) from None
