"""Which objective the settings of a training ask for."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hybridlab.tasks.base import Task
from hybridlab.tasks.several import SeveralTasks
from hybridlab.training.distillation import Distillation
from hybridlab.training.objective import Objective
from hybridlab.training.precision import Numerics
from hybridlab.training.several import SeveralObjective
from hybridlab.training.spec import TrainSpec


def objective_for(
    model: nn.Module, task: Task, spec: TrainSpec, numerics: Numerics, folder: Path
) -> Objective:
    """Return what a training makes small; ``folder`` is the run's, for what an objective keeps on disk.

    Raises:
        SpecError: what the settings name beside the model is not there or does not fit.
        TaskError: several tasks need a model that names its heads, as those that ``build`` returns do.
    """
    if spec.teacher is not None:
        return Distillation(model, task, spec, numerics, folder)
    if spec.tasks is not None and isinstance(task, SeveralTasks):
        return SeveralObjective(model, task, spec, spec.tasks, numerics)
    return Objective(model, task, numerics)
