"""Tunes a training's model to this machine, for its steps or for inference, and keeps what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.spec import Architecture
from hybridlab.planning.tuning.knobs import KNOBS
from hybridlab.planning.tuning.measure import TuningReport, choose_tuning
from hybridlab.planning.tuning.store import keep, kept
from hybridlab.planning.turns import ROUNDS
from hybridlab.profiling.session import device_of
from hybridlab.runs.home import home
from hybridlab.workflows.one_step import one_step


def tune_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool = False,
    rounds: int = ROUNDS,
    again: bool = False,
    chunks: bool = True,
    hand_overs: bool = False,
    exact: bool = False,
    folder: Path | None = None,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> TuningReport:
    """Measure chunks and layouts in the model of a training, on its task's first batch; see ``choose_tuning``.

    What is found of components is kept for this machine, and not measured again; not so where others kept it busy.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of another step is left out.
        training: whether it is the training step that is tuned; else the pass forward in evaluation mode.
        rounds: how many turns are timed, fewer where they take long.
        again: measure also what was measured before.
        chunks: try chunks of scans too; else only how numbers lie.
        hand_overs: choose over the whole graph how hand-overs lie, too.
        exact: keep only what leaves every bit of output and gradients as it is.
        folder: where this machine's figures are kept; the home folder, beside its ceilings, where none is named.
        on_part: hears before each part how many of how many are done.

    Raises:
        SpecError: the architecture or a setting is wrong, or the settings say what is not tuned.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    step = one_step(architecture, settings, training=training, verb="tune")
    place = folder or home()
    machine = str(device_of(step.model)), torch.get_num_threads()
    known = {} if again else kept(place, *machine)
    knobs = [knob for knob in KNOBS if knob.lays or chunks]
    options: Any = {"rounds": rounds, "known": known, "knobs": knobs, "on_part": on_part}
    report = choose_tuning(step, hand_overs=hand_overs, exact=exact, **options)
    if report.found:
        keep(place, *machine, report.found)
    return report
