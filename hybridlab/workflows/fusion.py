"""Fuses the model of a training with these settings, for its steps or for inference, where that is measured faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hybridlab.architecture.spec import Architecture
from hybridlab.planning.fusion.measure import FusionReport, choose_fusion
from hybridlab.planning.turns import ROUNDS
from hybridlab.workflows.one_step import one_step


def fuse_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool = False,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> FusionReport:
    """Measure what can be fused in the model of a training, on its task's first batch; see ``choose_fusion``.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of another step is left out.
        training: whether it is the training step that is fused; else the pass forward in evaluation mode.
        rounds: how many turns are timed, fewer where they take long.
        on_part: hears before each part how many of how many are done.

    Raises:
        SpecError: the architecture or a setting is wrong, or the settings say what is not fused.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    step = one_step(architecture, settings, training=training, verb="fuse")
    return choose_fusion(step, rounds=rounds, on_part=on_part)
