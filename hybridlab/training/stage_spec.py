"""Stages of a training: when each ends, how hard its task is, and which form of the model learns. Free of torch.

A curriculum goes from easy to hard (https://dl.acm.org/doi/10.1145/1553374.1553380) and moves on by steps, by a
validation metric or by competence (https://arxiv.org/abs/1904.03626); repeats that are added leave the outputs as they
are (Net2Net, https://arxiv.org/abs/1511.05641; LLaMA Pro, https://arxiv.org/abs/2401.02415).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hybridlab.training.part_spec import fits
from hybridlab.training.setting import setting

MOST_REPEATS = 256
Steps = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]
Paths = Annotated[str, Field(min_length=1, max_length=200)]


class Until(BaseModel):
    """When a stage ends: as soon as all that is asked for holds, and after its most steps in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Steps = Field(
        description="Steps of the stage; with other conditions the most it may take.",
        json_schema_extra={"unit": "steps"},
    )
    metric: float | None = setting("Move on once the first validation metric is this good.", None)
    metric_of: Literal["run", "stage"] = setting(
        "Which task that metric is scored on: the run's own, or the stage's.", "run"
    )
    train_loss: float | None = setting(
        "Move on once the training loss, averaged over the window, is at most this.",
        None,
        "nats",
        gt=0,
    )
    train_accuracy: float | None = setting(
        "Move on once the share of right answers in training, averaged over the window, is at least this.",
        None,
        ge=0,
        le=1,
    )
    window: Steps = setting(
        "Steps over which training loss and accuracy are averaged (exponentially); so many must have been made.",
        50,
        "steps",
    )

    @property
    def competence(self) -> bool:
        """Whether training itself is watched."""
        return self.train_loss is not None or self.train_accuracy is not None

    @property
    def conditions(self) -> bool:
        """Whether the stage may end before its most steps."""
        return self.competence or self.metric is not None


class StageSpec(BaseModel):
    """One stage of a training; what is left out is as in the run's own settings, or as the stage before left it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        description="What the stage is called in curves and messages.",
        min_length=1,
        max_length=40,
        pattern=r"^\w[\w .-]*$",
    )
    until: Until | None = setting(
        "When the next stage begins; the last stage goes to the end of the training.", None
    )
    task_params: dict[str, Any] = setting(
        "Parameters of the task in this stage, laid over those of the run: how long, how many, how noisy.",
        {},
    )
    freeze: Paths | None = setting(
        "Components that stop learning from here on, by path, with * for any text and | between several.",
        None,
    )
    unfreeze: Paths | None = setting("Components that learn again from here on.", None)
    grow: dict[Paths, Annotated[int, Field(strict=True, ge=1, le=MOST_REPEATS)]] = setting(
        "Repeats that are added at the end of groups, by the group's path: {stage: 2}. The outputs stay as they are, "
        "as the last maps of what is added begin at zero.",
        {},
        max_length=16,
    )
    new_repeats: Literal["copied", "drawn"] = setting(
        "What added repeats begin as, but for their last maps: copies of the repeats that are there, from the first "
        "on; or drawn afresh.",
        "copied",
    )
    open: dict[Paths, Steps] = setting(
        "Branches that open here, closed before, by path, and the steps that it takes: {ssm: 200}. What a gated join "
        "reads opens by its share there; any other component by a factor on what it adds.",
        {},
        max_length=16,
    )
    experts: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = setting(
        "Experts of each mixture that can be chosen in this stage, the first ones; empty: all.",
        None,
        "experts",
    )

    @field_validator("until", mode="before")
    @classmethod
    def _steps_alone(cls, value: object) -> object:
        return {"steps": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def of_model(self) -> bool:
        """Whether the stage changes the model, and not only its task."""
        asked = (self.freeze, self.unfreeze, self.grow, self.open, self.experts)
        return any(value for value in asked)


def misfits(stages: Sequence[StageSpec], steps: int) -> Iterator[str]:
    """Yield what is wrong with stages one after the other in a training of so many steps."""
    names = [stage.name for stage in stages]
    for place, stage in enumerate(stages):
        last = place == len(stages) - 1
        if stage.name in names[:place]:
            yield f"stages[{place}].name: {stage.name!r} is the name of another stage too"
        if last and stage.until is not None:
            yield (
                f"stages[{place}].until: the last stage goes to the end of the training; leave it out, "
                "or add the stage that comes after it"
            )
        if not last and stage.until is None:
            yield f"stages[{place}].until: only the last stage has no end; set until: {{steps: …}}"
        if last and stage.experts is not None:
            yield f"stages[{place}].experts: the last stage trains all experts; leave it out"
        if not place and stage.grow:
            yield "stages[0].grow: the first stage has nothing to grow from; write the repeats into the architecture"
    before = sum(stage.until.steps for stage in stages[:-1] if stage.until is not None)
    if stages and before >= steps:
        yield (
            f"stages: those before the last may take {before} steps of {steps}, so the last might never begin; set "
            f"steps to more than {before}, or shorten them"
        )


def frozen(stages: Sequence[StageSpec], place: int, path: str) -> bool:
    """Say whether a component does not learn in a stage: what the last word on it up to there was."""
    still = False
    for stage in stages[: place + 1]:
        if stage.freeze is not None and fits(path, stage.freeze):
            still = True
        if stage.unfreeze is not None and fits(path, stage.unfreeze):
            still = False
    return still


_COUNTS = {
    "hard": "the task",
    "logits": "answers",
    "hidden": "hidden states",
    "matrices": "mixing matrices",
}
"""What counts in a phase of learning from a teacher, as people read it."""


def stage_names(training: object) -> list[str]:
    """Return the names of the stages in a run's settings, in order; none where it has none.

    A training without stages may learn from its teacher in phases: these go by what counts in them.
    """
    if not isinstance(training, Mapping):
        return []
    if listed := training.get("stages"):
        return [str(dict(stage).get("name", "")) for stage in listed]
    phases = dict(training.get("teacher") or {}).get("phases") or ()
    return [" + ".join(_COUNTS.get(one, one) for one in dict(phase)["losses"]) for phase in phases]
