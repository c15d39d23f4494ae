"""What is asked for and what came of it: budgets and plans, as plain data. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.planning.saved import Saved
from hybridlab.units import format_bytes, parse_bytes

_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Budget(_Frozen):
    """The most bytes that a step may have at once: a number, or a share of what the plain step has."""

    peak_bytes: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``40MiB`` or ``50%``.

        Raises:
            SpecError: it is neither, or it is zero.
        """
        share = _SHARE.fullmatch(text)
        try:
            made = cls(share=float(share[1]) / 100) if share else cls(peak_bytes=parse_bytes(text))
        except (ValueError, ValidationError):
            raise SpecError(
                Problem(
                    "budget",
                    "is not an amount of memory",
                    "bytes with a unit, or a share of the plain step's peak, above 0",
                    repr(text),
                    "write 40MiB or 50%",
                )
            ) from None
        return made

    def bytes_of(self, plain_bytes: int) -> int:
        """Return the bytes that it allows where the plain step has ``plain_bytes`` at its peak."""
        if self.peak_bytes is not None:
            return self.peak_bytes
        return int((1.0 if self.share is None else self.share) * plain_bytes)

    def __str__(self) -> str:
        """Write it as ``parse`` reads it."""
        if self.peak_bytes is not None:
            return format_bytes(self.peak_bytes)
        return f"{100 * (1.0 if self.share is None else self.share):g}%"


class Figures(_Frozen):
    """What a step takes: bytes at its peak, and milliseconds."""

    peak_bytes: int
    step_ms: float


class Plan(Saved, allow_inf_nan=False):
    """Which runs of components are computed again in backward, for one architecture and one size of batch.

    ``recompute`` holds runs of consecutive components by name; of each only what it reads is kept. ``offload`` names
    components whose kept tensors leave memory between forward and backward, ``offload_as`` the type that they have
    meanwhile; in bfloat16 gradients are not the same any more. ``predicted`` and
    ``plain`` are of the step with the plan and without it; ``measured`` is there once it was applied and measured.
    """

    called: ClassVar = "plan"
    verb: ClassVar = "plan"
    version: Literal[1] = 1
    fingerprint: str
    components: tuple[str, ...]
    recompute: tuple[tuple[str, ...], ...] = ()
    offload: tuple[str, ...] = ()
    offload_as: Literal["same", "bfloat16"] = "same"
    batch: int = Field(gt=0)
    length: int = Field(gt=0)
    device: str = "cpu"
    task: str = ""
    budget: Budget | None = None
    predicted: Figures
    plain: Figures
    measured: Figures | None = None
    kept_because: dict[str, str] = Field(default_factory=dict)
    """Components that cannot be computed again, and why."""
    note: str = ""
    """What the figures are of, in a sentence, where the steps of the training are not all this one."""

    @field_validator("recompute")
    @classmethod
    def _some(cls, runs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        if not all(runs):
            raise ValueError("a run of components is empty")
        return runs

    @property
    def recomputed(self) -> tuple[str, ...]:
        """The names of all components that are computed again."""
        return tuple(name for run in self.recompute for name in run)

    @property
    def does_something(self) -> bool:
        """Whether it changes the plain step."""
        return bool(self.recompute or self.offload)

    @property
    def exact(self) -> bool:
        """Whether what is learnt with it is the same, bit for bit."""
        return not self.offload or self.offload_as == "same"

    @property
    def shelf(self) -> str:
        """Where tensors are that left memory, in words."""
        return "a memory-mapped file" if self.device == "cpu" else "pinned memory of the host"

    @property
    def told(self) -> str:
        """What it does, in words."""
        count, runs = len(self.components), len(self.recompute)
        said = (
            f"{len(self.recomputed)} of {count} components are computed again in backward, in {runs} "
            f"run{'s' if runs != 1 else ''}"
        )
        if self.offload:
            said += f"; what {len(self.offload)} keep is out of memory meanwhile, in {self.shelf}"
        return said if self.exact else f"{said}, in bfloat16, which is lossy"

    def away(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the places of the components whose kept tensors leave memory, among all names.

        Raises:
            RunError: one is no component, or is computed again.
        """
        problems = []
        for index, name in enumerate(self.offload):
            if name not in names:
                problems.append(Problem(f"plan.offload[{index}]", "is no component", got=name))
            elif name in self.recomputed:
                problems.append(
                    Problem(
                        f"plan.offload[{index}]", f"{name} is computed again, so nothing is kept"
                    )
                )
        if problems:
            raise RunError(problems)
        return tuple(sorted({names.index(name) for name in self.offload}))

    def spans(self, fingerprint: str, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return the first and the last place of each run among the instructions of an architecture.

        Raises:
            RunError: the plan is another architecture's, or names what may not or cannot be computed again.
        """
        if fingerprint != self.fingerprint or tuple(names) != self.components:
            raise RunError(
                Problem(
                    "plan",
                    "was made for another architecture",
                    f"fingerprint {self.fingerprint}",
                    fingerprint,
                    "make a plan for this one",
                )
            )
        place = {name: index for index, name in enumerate(names)}
        spans: list[tuple[int, int]] = []
        problems = []
        for index, run in enumerate(self.recompute):
            at = [place.get(name, -1) for name in run]
            held = [name for name in run if name in self.kept_because]
            here = f"plan.recompute[{index}]"
            if at[0] < 0 or at != list(range(at[0], at[0] + len(at))):
                problems.append(
                    Problem(
                        here, "is no run of components that follow each other", got=", ".join(run)
                    )
                )
            elif spans and at[0] <= spans[-1][1]:
                problems.append(Problem(here, "does not come after the run before it"))
            elif held:
                why = self.kept_because[held[0]]
                problems.append(Problem(here, f"{held[0]} cannot be computed again: {why}"))
            else:
                spans.append((at[0], at[-1]))
        if problems:
            raise RunError(problems)
        return tuple(spans)
