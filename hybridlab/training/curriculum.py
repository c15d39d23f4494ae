"""Which stage a training is in, when the next one begins, and what changes then: the task, and the form of the model.

All of it follows from the settings, the steps after which stages began, and averages of training, which checkpoints
keep; so a training that goes on from a checkpoint is in the same stage with the same form of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.answering import answering
from hybridlab.architecture.model import GraphModel
from hybridlab.tasks.base import Task
from hybridlab.training.competence import Competence
from hybridlab.training.evaluation import reached
from hybridlab.training.gates import Gate, gates, opened, set_learning, use_experts
from hybridlab.training.groups import optimiser as made_optimiser
from hybridlab.training.growth import grow, larger_model, unchanged
from hybridlab.training.objective import Objective
from hybridlab.training.spec import TrainSpec
from hybridlab.training.stage_checks import check_stages, stage_task
from hybridlab.training.stage_spec import StageSpec
from hybridlab.training.survival import survive

STAGE = "stage"
"""The metric that says at each border which stage begins: 1 for the second."""
Score = Callable[[Sequence[str], Task], dict[str, float]]
_log = logging.getLogger(__name__)


class Curriculum:
    """The stages of one training; without stages it changes nothing."""

    def __init__(self, model: nn.Module, task: Task, spec: TrainSpec, objective: Objective) -> None:
        """Check the stages; make it before the optimiser, and let the first stage ``begin`` after that.

        Raises:
            SpecError: a stage asks for what the model or the task does not have; it holds every problem.
        """
        check_stages(model, task, spec)
        self.model, self.task, self.spec, self.objective = model, task, spec, objective
        self.place = 0
        self.began = [0]
        self._tasks = [stage_task(task, spec, stage) for stage in spec.stages]
        self._born: list[list[nn.Parameter]] = []
        self._by_design = {id(p) for p in model.parameters() if not p.requires_grad}
        self._fixed: set[int] = set()
        self._competence = Competence(None)
        self._gates: list[Gate] = []
        self._good = False
        self._open = True

    @property
    def stage(self) -> StageSpec | None:
        """The stage that is under way."""
        return self.spec.stages[self.place] if self.spec.stages else None

    @property
    def whole(self) -> bool:
        """Whether the model is what the training ends with: the last stage's, all of its branches open."""
        return self.place >= len(self.spec.stages) - 1 and self._open

    def largest(self) -> list[tuple[nn.Module, Task]]:
        """Return the largest form of the model with each task that it learns, for a look at the memory."""
        if not self._tasks:
            return [(self.model, self.task)]
        model = self.model
        if isinstance(model, GraphModel) and any(stage.grow for stage in self.spec.stages):
            model = larger_model(model, self.spec.stages, self.spec.seed)
        return [(model, task) for task in dict.fromkeys([self.task, *self._tasks])]

    def begin(self) -> None:
        """Let the first stage begin, once the optimiser is made."""
        self._fixed = self._without_gradient()
        self._take_up()

    def before_update(self, step: int) -> None:
        """Set how far branches are open in the update that follows ``step`` updates."""
        if self.spec.stages:
            self._open = opened(self._gates, self.place, self.began, step, self.spec.steps)

    def learned(self, loss: Tensor) -> None:
        """Take up the loss of an update (scalar)."""
        self._competence.learned(loss)

    def scored(self, metrics: Mapping[str, float], score: Score) -> dict[str, float]:
        """Take up the validation metrics of the run's own task; return what the stage has to tell beside them."""
        until = self.stage.until if self.stage is not None else None
        told = self._competence.told()
        if until is None or until.metric is None:
            return told
        task = self._tasks[self.place] if until.metric_of == "stage" else self.task
        name = task.metric_name(task.val_splits[0])
        if until.metric_of == "stage":
            value = score(task.val_splits[:1], task)[name]
            told |= {f"stage_{name}": value}
        else:
            value = metrics[name]
        self._good = reached(task, {name: value}, until.metric)
        return told

    def over(self, step: int) -> bool:
        """Say, once after each update, whether the stage ends with it."""
        until = self.stage.until if self.stage is not None else None
        good, self._good = self._good, False
        if until is None:
            return False
        if step - self.began[-1] >= until.steps:
            return True
        return until.conditions and self._competence.reached and (good or until.metric is None)

    def enter_next(self, step: int, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Let the next stage begin after ``step`` updates; return the optimiser, another one if the model has grown.

        Raises:
            RunError: new repeats changed what the model answers.
        """
        self.place += 1
        self.began.append(step)
        stage = self.spec.stages[self.place]
        if stage.grow:
            before = self._answers()
            self._grow(stage)
            unchanged(before, self._answers())
            optimiser = self._rebuilt(optimiser)
        self._take_up()
        _log.info("stage %s begins after step %d", stage.name, step)
        return optimiser

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs, as plain JSON; nothing without stages."""
        if not self.spec.stages:
            return {}
        competence = self._competence.state()
        return {"place": self.place, "began": list(self.began), "competence": competence}

    def restore(
        self, state: Mapping[str, Any], optimiser: torch.optim.Optimizer
    ) -> torch.optim.Optimizer:
        """Go to the stage of a checkpoint, before weights and optimiser take theirs; return the optimiser for these."""
        if not state or not self.spec.stages:
            return optimiser
        was = self.place
        self.place, self.began = int(state["place"]), [int(step) for step in state["began"]]
        growing = [stage for stage in self.spec.stages[was + 1 : self.place + 1] if stage.grow]
        for stage in growing:
            self._grow(stage)
        if growing:
            optimiser = self._rebuilt(optimiser)
        self._take_up()
        self._competence.restore(state["competence"])
        return optimiser

    def holds(self, content: Mapping[str, Any]) -> bool:
        """Say whether a checkpoint's content is of the stage that is under way."""
        return int(content.get("curriculum", {}).get("place", 0)) == self.place

    def _take_up(self) -> None:
        """Set task, experts, branches and what learns as the stage says."""
        stage = self.stage
        if stage is None:
            return
        self._competence = Competence(stage.until)
        self.objective.task = self._competence.watched(self._tasks[self.place])
        self._gates = gates(self.model, self.spec.stages)
        use_experts(self.model, stage)
        set_learning(self.model, self.spec.stages, self.place, self._fixed)

    def _grow(self, stage: StageSpec) -> None:
        assert isinstance(self.model, GraphModel)
        new = grow(self.model, stage, self.spec.seed)
        self._born.append(new)
        self._by_design |= {id(parameter) for parameter in new if not parameter.requires_grad}

    def _rebuilt(self, before: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return an optimiser of the model that has grown, which remembers of old weights what the one before did."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) not in self._by_design)
        own = self.objective.own
        beside = list(own.parameters()) if own is not None else []
        after = made_optimiser(self.model, self.spec, beside)
        survive(before, after, self._born)
        self._fixed = self._without_gradient()
        return after

    def _without_gradient(self) -> set[int]:
        return {id(p) for p in self.model.parameters() if not p.requires_grad}

    def _answers(self) -> Tensor:
        """Return what the model answers to two samples; no random number is drawn, and nothing is learnt."""
        device = next(self.model.parameters()).device
        inputs = self._tasks[self.place].train_batch(0, 2, self.spec.seed).to(device).inputs
        devices = [] if device.type == "cpu" else [device]
        forked = torch.random.fork_rng(devices=devices, device_type=device.type)
        with answering(self.model), torch.no_grad(), forked:
            answers: Tensor = self.model(inputs).float()
        return answers
