"""How a model is trained: every setting with its unit, range and meaning. Free of torch, so that pages may read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hybridlab.errors import Problem, SpecError
from hybridlab.training.allocator_spec import AllocatorSpec
from hybridlab.training.group_spec import GroupSpec
from hybridlab.training.pool_spec import PoolSpec
from hybridlab.training.setting import setting
from hybridlab.training.several_spec import SeveralSpec
from hybridlab.training.stage_spec import StageSpec, misfits
from hybridlab.training.teacher_spec import TeacherSpec
from hybridlab.validation import problems_from, shown

MAX_BYTES = 64 * 1024
MEASURED = ("plan", "fusion", "tuning", "precisions", "regions")
"""Settings that hold what was measured of the step of one architecture."""
_ARE = {
    "fusion": "a fusion is",
    "tuning": "a tuning is",
    "precisions": "precisions are",
    "regions": "regions are",
}


class TrainSpec(BaseModel):
    """The settings of one training; unknown keys are errors, and there is no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = Field(description="Name of the task to train on.", min_length=1, max_length=100)
    task_params: dict[str, Any] = setting(
        "Parameters of the task; what is left out keeps its default.", {}
    )
    tasks: SeveralSpec | None = setting(
        "Several tasks on one trunk, the task above the first of them; empty trains on that alone.",
        None,
    )
    steps: Annotated[int, Field(strict=True)] = setting(
        "Updates of the weights, unless training stops earlier.",
        1000,
        "steps",
        ge=1,
        le=100_000_000,
    )
    batch: Annotated[int, Field(strict=True)] = setting(
        "Samples that one update of the weights sees.", 64, "samples", ge=1, le=1_048_576
    )
    accumulation: Annotated[int, Field(strict=True)] = setting(
        "Parts into which a batch is cut, one after the other; same update, less memory.",
        1,
        "parts",
        ge=1,
        le=65_536,
    )
    buckets: Annotated[int, Field(strict=True)] = setting(
        "Batches that are drawn together, sorted by length and cut anew, where samples are of several lengths: each is "
        "padded to its own longest sample, and nothing reads the padding. 0: all are padded to the longest there is, "
        "and the padding is read as if it were theirs.",
        0,
        "batches",
        ge=0,
        le=256,
    )
    learning_rate: float = setting("Peak step size of AdamW.", 3e-3, gt=0, le=10)
    schedule: Literal["cosine", "constant"] = setting(
        "How the learning rate goes after warm-up: down along a cosine, or constant.", "cosine"
    )
    final_rate: float = setting(
        "Where the cosine ends, as a share of the peak learning rate.", 0.05, ge=0, le=1
    )
    warmup_steps: Annotated[int, Field(strict=True)] = setting(
        "Steps over which the learning rate rises from zero to its peak.",
        50,
        "steps",
        ge=0,
        le=100_000_000,
    )
    weight_decay: float = setting(
        "Decay of matrices; norms, biases, embeddings and state-space rates are not decayed.",
        0.01,
        ge=0,
        le=10,
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        setting("AdamW's averaging of gradients and of their squares.", (0.9, 0.95))
    )
    groups: tuple[GroupSpec, ...] = setting(
        "Weights that are optimised in another way than all others; the first group that fits takes a weight.",
        (),
        max_length=64,
    )
    stages: tuple[StageSpec, ...] = setting(
        "Stages one after the other, from easy to hard: the task's difficulty, and which form of the model learns. "
        "Empty trains the whole model on the task as it is.",
        (),
        max_length=64,
    )
    teacher: TeacherSpec | None = setting(
        "A trained network to learn from, beside the task's own answers; empty: none.", None
    )
    plan: dict[str, Any] | None = setting(
        "A plan as `hybridlab plan --output` writes it: which components are computed again in backward, for less "
        "memory; what is learnt stays the same, bit for bit. Empty: none.",
        None,
    )
    fusion: dict[str, Any] | None = setting(
        "What is fused, as `hybridlab fuse --for training --output` writes it: linear maps that read one tensor run as "
        "one product; what is learnt is the same but for rounding. Empty: nothing.",
        None,
    )
    tuning: dict[str, Any] | None = setting(
        "What components do in another way, as `hybridlab tune --for training --output` writes it: chunks of scans, "
        "layouts of convolutions; what is learnt is the same but for rounding. Empty: all as designed.",
        None,
    )
    regions: dict[str, Any] | None = setting(
        "What runs compiled, as `hybridlab fuse --regions --for training --output` writes it: components whose "
        "element-wise work a compiler makes into few kernels, at the beginning of the training; what is learnt is the "
        "same but for rounding. Empty: nothing.",
        None,
    )
    precisions: dict[str, Any] | None = setting(
        "Number formats of single components, as `hybridlab precision --for training --output` writes them; what is "
        "learnt differs by their rounding. Empty: all as precision says.",
        None,
    )
    pools: tuple[PoolSpec, ...] = setting(
        "Memory pools of an accelerator, each for some components; the first that fits takes a component. What is "
        "learnt stays the same. Empty: none.",
        (),
        max_length=16,
    )
    allocator: AllocatorSpec | None = setting(
        "How torch hands out an accelerator's memory, in this training's process alone; empty: as torch has it.",
        None,
    )
    cache_frozen: Annotated[int, Field(strict=True)] = setting(
        "Most that outputs of frozen components at the network's beginning may take in memory and on disk; they are "
        "then computed once for each sample, where samples come again. 0: computed anew at each step.",
        0,
        "MiB",
        ge=0,
        le=1_048_576,
    )
    residual_init: Literal["default", "depth_scaled", "zero"] = setting(
        "How the last maps of residual branches start: as drawn; smaller by the root of the number of residuals, so "
        "that their sum keeps its size; or at zero, so that each block begins as nothing but its residual. What has no "
        "last map, such as an LSTM whose state is as wide as the model, starts as drawn; the run's log names it.",
        "default",
    )
    residual_scale: float = setting(
        "Factor on the last maps of residual branches at the start.", 1.0, ge=0, le=1_000
    )
    residual_parts: str = setting(
        "Components that these two are for, by path, with * for any text and | between several: stage.*.mamba2.",
        "*",
        min_length=1,
        max_length=200,
    )
    clip_norm: float = setting(
        "Largest norm of all gradients together; 0 turns clipping off.", 1.0, ge=0, le=1e6
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "Number format of the arithmetic; auto is float32 on a CPU and bfloat16 on accelerators that have it.",
        "auto",
    )
    eval_every: Annotated[int, Field(strict=True)] = setting(
        "Steps between scores on the validation split.", 100, "steps", ge=1, le=100_000_000
    )
    target: float | None = setting(
        "Stop once every validation metric is this good; empty runs all steps.", None
    )
    patience: Annotated[int, Field(strict=True)] | None = setting(
        "Stop after this many validations without a better one; empty never does.",
        None,
        "validations",
        ge=1,
    )
    checkpoint_every: Annotated[int, Field(strict=True)] = setting(
        "Steps between checkpoints; stopping and ending write one too.",
        200,
        "steps",
        ge=1,
        le=100_000_000,
    )
    keep_checkpoints: Annotated[int, Field(strict=True)] = setting(
        "Newest checkpoints to keep; two survive the loss of one.", 2, "checkpoints", ge=1, le=1_000
    )
    rollbacks: Annotated[int, Field(strict=True)] = setting(
        "How often the training may go back to its last good checkpoint by itself, with lower rates, where the loss "
        "shoots up or a number is not finite; 0 tells of the former and ends at the latter.",
        0,
        "times",
        ge=0,
        le=100,
    )
    rollback_rate: float = setting(
        "What all learning rates are multiplied with after going back.", 0.5, gt=0, le=1
    )
    deterministic: bool = setting(
        "Use only algorithms that give the same bits each time, also on an accelerator; slower there, and an operation "
        "that has none ends the run with a sentence.",
        False,
    )
    log_every: Annotated[int, Field(strict=True)] = setting(
        "Steps between points of the live curves.", 1, "steps", ge=1, le=1_000_000
    )
    component_metrics_every: Annotated[int, Field(strict=True)] | None = setting(
        "Steps between each component's gradient norm, update ratio and expert load; empty takes about 200 in a "
        "training, at least 20 steps apart; 0 turns them off.",
        None,
        "steps",
        ge=0,
        le=100_000_000,
    )
    profile_every: Annotated[int, Field(strict=True)] = setting(
        "Steps between full profiles of one step, written as traces of which the newest ten are kept; 0 takes none. "
        "Ending a profile costs about as much as ten steps.",
        0,
        "steps",
        ge=0,
        le=100_000_000,
    )
    meter_hz: float = setting(
        "Readings of processor, memory, device and power; they cost next to nothing.",
        1.0,
        "times a second",
        ge=1,
        le=20,
    )
    idle_power_s: float = setting(
        "Rest before the training in which idle power is measured, to be told and taken off beside the energy; "
        "0 takes none. It needs a machine with an energy counter.",
        0.0,
        "seconds",
        ge=0,
        le=60,
    )
    stated_watts: float | None = setting(
        "Power that you state, for a modelled energy beside the measured one; empty models nothing.",
        None,
        "W",
        gt=0,
        le=1e6,
    )
    seed: Annotated[int, Field(strict=True)] = setting(
        "Decides the first weights, the order of the data and all other chance.",
        0,
        ge=0,
        le=2**63 - 1,
    )
    device: str = Field(
        default="auto",
        description="Where to train: auto takes the accelerator if there is one, else the CPU.",
        pattern=r"^[a-z]+(:\d+)?$",
        max_length=32,
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.accumulation > self.batch:
            raise ValueError(
                f"accumulation {self.accumulation} is more than the batch of {self.batch} samples"
            )
        if wrong := list(misfits(self.stages, self.steps)):
            raise ValueError("; ".join(wrong))
        for group in self.groups:
            if group.optimiser == "schedule_free" and group.betas is None and not self.betas[0]:
                raise ValueError(
                    f"the group {group.name!r} is schedule_free, which needs a first beta above 0, such as 0.9"
                )
        if together := self._apart():
            raise ValueError(together)
        if self.tasks is not None:
            first = self.tasks.of[0]
            if (first.task, first.task_params) != (self.task, self.task_params):
                raise ValueError(
                    f"the first of tasks is {first.task!r}, the task {self.task!r}; both must be the same, with the "
                    "same parameters"
                )
        return self

    def _apart(self) -> str:
        """Say which ways of training are asked for that do not go together; nothing where all do."""
        if self.tasks is not None and self.teacher is not None:
            return "a teacher answers one task; take out teacher, or train on one of the tasks"
        if self.tasks is not None and any(stage.task_params for stage in self.stages):
            return "stages change the parameters of one task, and there are several; take out task_params or tasks"
        if self.teacher is not None and any(stage.grow for stage in self.stages):
            return "a teacher's layers stand beside the student's, which a stage lets grow; take out grow or teacher"
        if self.plan is not None and any(stage.grow for stage in self.stages):
            return "a plan is for one architecture, and a stage lets it grow; take out grow or plan"
        measured = [n for n in MEASURED if n != "plan" and getattr(self, n) is not None]
        if measured and (self.stages or self.tasks or self.teacher):
            first = measured[0]
            return (
                f"{_ARE[first]} for the same step of one model each time; take out {first}, or stages, tasks and "
                "teacher"
            )
        apart = [
            name for name in ("plan", "fusion", "precisions") if getattr(self, name) is not None
        ]
        if self.regions is not None and apart:
            return f"regions are compiled of components as designed; take out regions, or {', '.join(apart)}"
        if self.regions is not None and self.accumulation > 1:
            return "regions are compiled for whole batches; take out regions, or accumulation"
        if self.buckets and (other := self._fixed_step()):
            return f"buckets give steps of several lengths; take out buckets, or {other}"
        if self.pools and any(stage.grow for stage in self.stages):
            return "pools are of the components that the network begins with; take out pools, or grow of the stages"
        if self.cache_frozen and (
            measured or self.plan or self.stages or self.tasks or self.teacher
        ):
            return (
                "outputs of frozen components are kept for the plain step of one model; take out cache_frozen, or "
                "stages, tasks, teacher, plan, fusion, tuning, precisions and regions"
            )
        if self.cache_frozen and not any(group.frozen for group in self.groups):
            return "cache_frozen needs a group that is frozen; freeze one in groups, or take out cache_frozen"
        return ""

    def _fixed_step(self) -> str:
        """Name what is asked for that is made for steps of one length, or batches of its own; nothing where nothing."""
        given = {
            "tasks": self.tasks,
            "teacher": self.teacher,
            **{name: getattr(self, name) for name in MEASURED},
            "cache_frozen": self.cache_frozen,
            "task_params of stages": any(stage.task_params for stage in self.stages),
        }
        return " and ".join(name for name, there in given.items() if there)


def make(settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> TrainSpec:
    """Return a spec from settings laid over defaults (such as a task's own).

    Raises:
        SpecError: a setting is unknown, of the wrong type or out of range; it holds every problem.
    """
    try:
        return TrainSpec.model_validate({**(defaults or {}), **settings})
    except ValidationError as error:
        raise SpecError(problems_from(error, known=list(TrainSpec.model_fields))) from None


def read_settings(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings that a YAML file names; lay them over a task's defaults with ``make``.

    Raises:
        SpecError: the file cannot be read, or is not a mapping of settings.
    """
    path = Path(source)
    wanted = "a mapping such as {task: parity, steps: 500}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(Problem(str(path), "is too large", f"at most {MAX_BYTES // 1024} KiB"))
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(
            Problem(str(path), f"cannot be read: {reason}", "a file of settings")
        ) from None
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(Problem(str(path), f"is not YAML: {reason}", wanted)) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SpecError(Problem(str(path), "does not hold settings", wanted, shown(content)))
    return content
