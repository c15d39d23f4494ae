"""What a step takes in another number format, or fused: traced whole, operator by operator, on fake tensors."""

from __future__ import annotations

import functools
import warnings

from torch import nn

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.fake_run import fake_inputs
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import BuildContext
from hybridlab.planning.fusion.apply import fuse
from hybridlab.planning.fusion.find import find, together
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.training_step import recipe
from hybridlab.tasks.base import Task
from hybridlab.trace.exact import Recipe, fake_step, trace_fake
from hybridlab.trace.step import TrainingStep, casting
from hybridlab.training.spec import TrainSpec


class Steps:
    """The steps of designs that are trained with the same settings; what a design takes is worked out once."""

    def __init__(self, task: Task, training: TrainSpec) -> None:
        """Take the task and the training, whose precision is that of the step."""
        self._task, self._training = task, training
        self._recipe: Recipe | None = None
        self._peaks: dict[tuple[str, tuple[tuple[str, ...], ...], bool], int] = {}
        self._fusions: dict[str, Fusion | None] = {}

    def peak_bytes(
        self, fitted: Architecture, fusion: Fusion | None = None, *, training: bool = True
    ) -> int:
        """Return the most bytes that a step has at once, or a pass forward of the same batch without ``training``.

        Raises:
            HybridLabError: the architecture cannot be built.
        """
        key = fitted.fingerprint, () if fusion is None else fusion.products, training
        if key not in self._peaks:
            self._peaks[key] = trace_fake(
                lambda: self._step(fitted, fusion, training=training)
            ).peak_bytes
        return self._peaks[key]

    def fusion(self, fitted: Architecture) -> Fusion | None:
        """Return a fusion of all linear maps that read one tensor, for training; None where no two do.

        Who reads what is watched in one pass on fake tensors, so that no weights are made. Tables of turns are left as
        they are: on fake tensors they are not shared.
        """
        if fitted.fingerprint not in self._fusions:
            inference = infer(fitted, self._task.input_type())
            with QuickFakeMode(allow_non_fake_inputs=True), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = GraphModel(fitted, inference, None)
                context = BuildContext((inference.input,), fitted.width)
                inputs = fake_inputs(context, self._training.batch, self._task.length)
                found = find(model, inputs, training=True)
            every = [one.fusion for one in found.candidates if one.fusion.products]
            self._fusions[fitted.fingerprint] = together(every) if every else None
        return self._fusions[fitted.fingerprint]

    def _step(self, fitted: Architecture, fusion: Fusion | None, *, training: bool) -> TrainingStep:
        """Build a design's step; called among fake tensors."""
        step = fake_step(
            fitted,
            infer(fitted, self._task.input_type()),
            batch=self._training.batch,
            length=self._task.length,
            recipe=self._how(),
            training=training,
        )
        if not training:
            cast, where = self._how().cast, step.inputs[0].device.type
            step.around = functools.partial(casting, cast, where)
        if fusion is not None:
            _fused(step.model, fusion)
        return step

    def _how(self) -> Recipe:
        """Return how the task trains, in the training's format."""
        if self._recipe is None:
            data = self._task.train_batch(0, self._training.batch, self._training.seed)
            self._recipe = recipe(self._task, self._training, data.targets)
        return self._recipe


def _fused(model: nn.Module, fusion: Fusion) -> None:
    assert isinstance(model, GraphModel)
    fuse(model, fusion)
