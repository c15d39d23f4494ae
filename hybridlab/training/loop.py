"""The training loop: one update after the other, scored, kept and resumable to the bit.

Test metrics are those of the final weights, computed once, at the end. The weights of the best validation are kept
beside them in ``best.safetensors`` and are never chosen by the test split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.tasks.base import Task
from hybridlab.training.meter import OnMetrics
from hybridlab.training.precision import deterministic
from hybridlab.training.result import TrainResult
from hybridlab.training.session import Session, ShouldStop
from hybridlab.training.spec import TrainSpec


def train(
    model: nn.Module,
    task: Task,
    spec: TrainSpec,
    *,
    folder: Path,
    on_metrics: OnMetrics = lambda step, metrics: None,
    should_stop: ShouldStop = lambda: None,
    on_step: Callable[[int], None] = lambda step: None,
    on_restored: Callable[[int], None] = lambda step: None,
    on_rollback: Callable[[int, str], None] = lambda step, why: None,
    before_checkpoint: Callable[[], object] = lambda: None,
    resume: bool = False,
) -> TrainResult:
    """Train a model on a task; with ``resume`` go on from the newest whole checkpoint in the folder, if there is one.

    The model is moved to the spec's device and changed in place. On one machine, one number of threads and one seed the
    weights come out bit-equal, whether or not the training was broken off and resumed.

    Args:
        model: maps a batch's inputs to logits; ``aux_loss()``, ``exits()``, ``after_update()`` and ``reports()`` are
            used where it has them.
        task: what to learn.
        spec: how.
        folder: where checkpoints, final weights and the result go.
        on_metrics: is given (step, values) as they happen.
        should_stop: says ``cancel`` or ``interrupt`` to stop after the current step; a checkpoint is written.
        on_step: is told the number of updates after each one.
        on_restored: with ``resume``, is told the step that training goes on from (0: from the start), before it does.
        on_rollback: is told the step that training goes back to by itself, and why.
        before_checkpoint: is called before each checkpoint, so that no metric is younger than it.
        resume: whether to look for a checkpoint.

    Raises:
        RunError: the loss is not finite, a file cannot be written, or the checkpoint is of another architecture.
        DeviceError: the device is not there, or the batch does not fit into its memory.
    """
    training = Session(model, task, spec, folder, on_metrics, before_checkpoint)
    training.on_rollback, training.should_stop = on_rollback, should_stop
    if resume:
        training.restore()
        on_restored(training.progress.step)
    failed = False
    try:
        with deterministic(spec.deterministic):
            stopped = training.run(on_step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = True
    if failed:  # outside the handler, so that the failed step's tensors are gone
        raise training.explain_memory()
    return training.finish(stopped)
