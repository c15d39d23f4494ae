"""Several tasks on one trunk: which, how steps are shared out, and how losses are balanced. Free of torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridlab.training.setting import setting

MOST_TASKS = 8
Sampling = Literal["joint", "each", "proportional", "temperature", "round_robin"]
Balancing = Literal["fixed", "uncertainty", "gradnorm", "dwa", "pcgrad", "cagrad"]
OF_GRADIENTS = ("gradnorm", "pcgrad", "cagrad")
"""Ways of balancing that look at the gradients of all tasks at every step."""
TOGETHER = ("joint", "each")
"""Ways of sampling in which every step has all tasks."""
SAMPLINGS: dict[str, str] = {
    "joint": "all tasks answer the same inputs",
    "each": "a step has samples of every task",
    "proportional": "one task a step, as often as it has samples",
    "temperature": "one task a step, small ones oftener",
    "round_robin": "one task a step, in turn",
}
BALANCINGS: dict[str, tuple[str, str]] = {
    "fixed": ("the weights as they are given", ""),
    "uncertainty": (
        "a learnt noise for each task; the noisier, the lighter",
        "https://arxiv.org/abs/1705.07115",
    ),
    "gradnorm": (
        "weights under which all tasks' gradients learn at like pace",
        "https://arxiv.org/abs/1711.02257",
    ),
    "dwa": (
        "more weight where the loss has fallen less lately",
        "https://arxiv.org/abs/1803.10704",
    ),
    "pcgrad": (
        "take out of each gradient what goes against another",
        "https://arxiv.org/abs/2001.06782",
    ),
    "cagrad": (
        "near the mean gradient, the direction that helps the worst-off task most",
        "https://arxiv.org/abs/2110.14048",
    ),
}
"""What each does, in words, and its paper."""


class TaskPart(BaseModel):
    """One of the tasks, with the head that answers it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = Field(description="Name of the task.", min_length=1, max_length=100)
    task_params: dict[str, Any] = setting(
        "Parameters of the task; what is left out keeps its default.", {}
    )
    name: str | None = setting(
        "What it is called in metrics; empty: the task's name. Needed where a task stands here twice.",
        None,
        pattern=r"^[a-z][a-z0-9_]*$",
        max_length=50,
    )
    head: str | None = setting(
        "Id of the node that answers it, at the top of the architecture; empty: a head is put behind the trunk.",
        None,
        min_length=1,
        max_length=64,
    )
    weight: float = setting("Factor on its loss; balancing multiplies its own.", 1.0, gt=0, le=1e6)
    size: float | None = setting(
        "How much of it there is, for proportional and temperature sampling; empty: its training samples.",
        None,
        "samples",
        gt=0,
        le=1e15,
    )

    @property
    def called(self) -> str:
        """Its name in metrics."""
        return self.name or self.task


class SeveralSpec(BaseModel):
    """The tasks of one training; the first is that of the settings, and the model's own output answers it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    of: tuple[TaskPart, ...] = Field(
        description="The tasks, the first one that of the settings.",
        min_length=2,
        max_length=MOST_TASKS,
    )
    sampling: Sampling = setting(
        "What a step learns from: joint has all tasks answer the same inputs; each has samples of every task, the "
        "batch shared out evenly; the others take one task a step: as often as it has samples, that to the power of "
        "one over the temperature (https://arxiv.org/abs/1907.05019), or in turn.",
        "joint",
    )
    temperature: float = setting(
        "For temperature sampling: 1 is proportional, more is nearer to equal shares.",
        2.0,
        gt=0,
        le=1e6,
    )
    balancing: Balancing = setting(
        "How the tasks' losses or gradients become one: fixed weights; learnt uncertainties; GradNorm; dynamic weight "
        "average; PCGrad; CAGrad. The last two and GradNorm need every task at every step: joint or each.",
        "fixed",
    )
    gradnorm_alpha: float = setting(
        "For GradNorm: how strongly slower tasks are pulled along; 0 makes all gradients equally large.",
        1.5,
        ge=0,
        le=10,
    )
    gradnorm_rate: float = setting(
        "For GradNorm: step size of the weights of tasks.", 0.025, gt=0, le=1
    )
    dwa_temperature: float = setting(
        "For dynamic weight average: the larger, the more equal the weights.", 2.0, gt=0, le=1e6
    )
    dwa_every: Annotated[int, Field(strict=True)] = setting(
        "For dynamic weight average: steps over which losses are averaged; the paper's are an epoch.",
        50,
        "steps",
        ge=1,
        le=100_000_000,
    )
    cagrad_c: float = setting(
        "For CAGrad: how far from the mean gradient it may go, as a share of that gradient's norm.",
        0.5,
        ge=0,
        lt=1,
    )
    main: Literal["mean", "first"] | None = setting(
        "The main metric, which picks the best weights: the mean over tasks, or that of the first; empty: the mean "
        "where all are scored in the same measure, else the first.",
        None,
    )
    cosines_every: Annotated[int, Field(strict=True)] | None = setting(
        "Steps between cosines of the tasks' gradients; empty takes up to 40 in a training, as far apart as keeps "
        "their cost at a twentieth of its time; 0 turns them off.",
        None,
        "steps",
        ge=0,
        le=100_000_000,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [part.called for part in self.of]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two tasks are called {doubled!r}; give one of them another name")
        if self.balancing in OF_GRADIENTS and self.sampling not in TOGETHER:
            raise ValueError(
                f"{self.balancing} needs the gradients of all tasks at every step; set sampling to joint or each, not "
                f"{self.sampling}"
            )
        return self
