"""How a network learns from another one that has learnt already: who teaches, what is alike, and in which order.

Free of torch: pages read it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridlab.training.setting import setting

LATEST = "latest:"
"""What a run begins with that names the newest finished one of an architecture: ``latest:lstm_attention_mini``."""
Loss = Literal["hard", "logits", "hidden", "matrices"]
LOSSES: tuple[Loss, ...] = ("hard", "logits", "hidden", "matrices")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LogitsSpec(_Frozen):
    """The student's answers follow the teacher's, all classes of them (https://arxiv.org/abs/1503.02531)."""

    weight: float = setting("Weight of this loss.", 1.0, gt=0, le=1e6)
    temperature: float = setting(
        "What logits are divided by before both softmaxes; higher tells more of the classes that are unlikely.",
        2.0,
        gt=0,
        le=100,
    )


class HiddenSpec(_Frozen):
    """What follows a component of the student is like what follows one of the teacher's, through a map that is learnt.

    The loss is the mean square of the difference over that of the teacher's, so that 1 is as good as zeros.
    """

    weight: float = setting("Weight of this loss.", 1.0, gt=0, le=1e6)


class MatricesSpec(_Frozen):
    """A mixer of the student mixes positions as one of the teacher's does (https://arxiv.org/abs/2408.10189).

    The loss is the Frobenius norm of the difference of the two matrices (L, L), the mean over samples and heads.
    """

    weight: float = setting("Weight of this loss.", 1.0, gt=0, le=1e6)


class LayerPair(_Frozen):
    """A component of the teacher and the one of the student that is to be like it, by their paths."""

    teacher: str = Field(
        description="Path in the teacher, such as stage.1.attention.", min_length=1, max_length=400
    )
    student: str = Field(
        description="Path in the student, such as stage.0.mamba2.", min_length=1, max_length=400
    )


class Phase(_Frozen):
    """Some steps in which only some of the losses count."""

    losses: tuple[Loss, ...] = Field(
        description="Which of hard, logits, hidden and matrices count.", min_length=1, max_length=4
    )
    steps: Annotated[int, Field(strict=True)] | None = setting(
        "How long; empty, and only in the last phase: all that are left.",
        None,
        "steps",
        ge=1,
        le=100_000_000,
    )


class TeacherSpec(_Frozen):
    """Who teaches, and what of it the student is to be like."""

    run: str | None = setting(
        "A finished run of this home that teaches, by its id; or latest: and the name of an architecture for the "
        "newest one of it on the same task, such as latest:lstm_attention_mini.",
        None,
        min_length=1,
        max_length=200,
    )
    architecture: str | None = setting(
        "Instead of a run: a file, a preset or a saved design, whose weights stand in a file.",
        None,
        min_length=1,
        max_length=4_000,
    )
    weights: str | None = setting(
        "The safetensors file of that architecture's weights, as hybridlab import hf --weights writes it.",
        None,
        min_length=1,
        max_length=4_000,
    )
    hard: float = setting("Weight of the task's own loss; 0 leaves it out.", 0.5, ge=0, le=1e6)
    logits: LogitsSpec | None = setting("Answers like the teacher's; empty: none.", LogitsSpec())
    hidden: HiddenSpec | None = setting("Hidden states like the teacher's; empty: none.", None)
    matrices: MatricesSpec | None = setting(
        "Positions mixed like the teacher's; empty: none.", None
    )
    layers: tuple[LayerPair, ...] = setting(
        "Which component of the teacher each of the student is to be like; empty: mixers at the same relative depth.",
        (),
        max_length=1_000,
    )
    feed: Literal["student", "teacher"] = setting(
        "What the student's components read where they are compared: what they read anyway, or what the teacher's "
        "component reads, so that errors of earlier ones do not add up; that wants equal widths.",
        "student",
    )
    copy_weights: bool = setting(
        "Start every component that the teacher has too, at the same path and of the same shapes, with its weights.",
        False,
    )
    phases: tuple[Phase, ...] = setting(
        "Losses one after the other, such as matrices, then hidden, then logits and hard; empty: all of them always.",
        (),
        max_length=20,
    )
    cache_mib: Annotated[int, Field(strict=True)] = setting(
        "Most room, on disk and in memory, for what the teacher says of samples that come again; 0 asks it anew each "
        "time. Where not all fits, nothing is kept.",
        256,
        "MiB",
        ge=0,
        le=1_048_576,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.run is None and (self.architecture is None or self.weights is None):
            raise ValueError("a teacher is a run, or an architecture with a file of weights")
        if self.run is not None and (self.architecture is not None or self.weights is not None):
            raise ValueError("a run has an architecture and weights of its own; leave them out")
        if not self.active - {"hard"}:
            raise ValueError("nothing of the teacher counts; set logits, hidden or matrices")
        for place, phase in enumerate(self.phases):
            if missing := [name for name in phase.losses if name not in self.active]:
                raise ValueError(f"phases[{place}] counts {missing[0]}, which is not set")
            if phase.steps is None and place < len(self.phases) - 1:
                raise ValueError(
                    f"phases[{place}] has no steps; only the last may go on to the end"
                )
        return self

    @property
    def active(self) -> frozenset[Loss]:
        """Return the losses that are set."""
        asked = {
            "hard": self.hard > 0,
            "logits": self.logits is not None,
            "hidden": self.hidden is not None,
            "matrices": self.matrices is not None,
        }
        return frozenset(name for name in LOSSES if asked[name])

    @property
    def compares(self) -> bool:
        """Whether components are compared, so that a map of them is needed."""
        return self.hidden is not None or self.matrices is not None

    def phase_at(self, step: int) -> int:
        """Return the place of the phase that a step (from 0) is in; the last one goes on where its steps are over."""
        end = 0
        for place, phase in enumerate(self.phases):
            end += phase.steps or 0
            if phase.steps is None or step < end:
                return place
        return max(0, len(self.phases) - 1)

    def losses_at(self, step: int) -> frozenset[Loss]:
        """Return the losses that count at a step (from 0)."""
        return frozenset(self.phases[self.phase_at(step)].losses) if self.phases else self.active

    def begins(self) -> tuple[int, ...]:
        """Return the step at which each phase begins, from 0; empty without phases."""
        found, at = [], 0
        for phase in self.phases:
            found.append(at)
            at += phase.steps or 0
        return tuple(found)
