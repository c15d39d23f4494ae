"""Compiles regions of the model of a training with these settings, where that is measured faster, beside this process.

PyTorch's compiler takes seconds to minutes a region, cannot be interrupted, and may end its process: it works in one of
its own. A region that does not come to an end there is left out, and the others are measured in another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hybridlab.architecture.document import dump
from hybridlab.architecture.spec import Architecture
from hybridlab.planning.regions.measure import MOST
from hybridlab.planning.regions.report import RegionsReport
from hybridlab.planning.turns import ROUNDS
from hybridlab.workflows.one_step import one_step
from hybridlab.workflows.own_process import NoAnswerError, ask

LIMIT_S = 600.0
"""No region is compiled and timed for longer."""
_POINT = "hybridlab.workflows.regions_point"
_LOOK_S = 1.0


def regions_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool = False,
    rounds: int = ROUNDS,
    most: int = MOST,
    limit_s: float = LIMIT_S,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
    say: Callable[[str], object] = lambda text: None,
) -> RegionsReport:
    """Measure what is faster compiled in the model of a training, on its task's first batch; see ``choose_regions``.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of another step is left out.
        training: whether it is the training step that is to be faster; else the pass forward in evaluation mode.
        rounds: how many turns are timed, fewer where they take long.
        most: how many regions are compiled, the most promising first.
        limit_s: how long each may take.
        on_part: hears about once a second how many parts of how many are done; what it raises ends everything at once.
        say: hears which region is compiled.

    Raises:
        SpecError: the architecture or a setting is wrong, or the settings say what has no one step.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: there is no compiler, or it ends its process before any region; it says how.
    """
    check(architecture, settings, training=training)
    asked: dict[str, Any] = {
        "architecture": dump(architecture),
        "training": dict(settings),
        "for": "training" if training else "inference",
        "rounds": rounds,
        "most": most,
        "threads": torch.get_num_threads(),
    }
    left_out: dict[str, str] = {}
    while True:
        heard = _Heard(on_part, say)
        try:
            found = ask(
                *(_POINT, {**asked, "left_out": dict(left_out)}, heard.look),
                limit_s=limit_s,
                on_said=heard.said,
            )
        except NoAnswerError as error:
            if not heard.doing or heard.doing in left_out:
                raise
            left_out[heard.doing] = f"cannot be compiled: {error.problems[0].message}"
            continue
        return RegionsReport.read(found)


def check(architecture: Architecture, settings: Mapping[str, Any], *, training: bool) -> None:
    """See that there is such a step, before a process is started for it.

    Raises:
        HybridLabError: as ``regions_training`` says.
    """
    one_step(architecture, settings, training=training, verb="compile")


class _Heard:
    """What the process has said: which region it is at, and how far it is."""

    def __init__(self, on_part: Callable[[int, int], object], say: Callable[[str], object]) -> None:
        self._on_part, self._say = on_part, say
        self._looked = 0.0
        self._now = (0, 1)
        self.doing = ""

    def look(self) -> None:
        """Tell how far it is, about once a second."""
        if time.monotonic() > self._looked + _LOOK_S:
            self._looked = time.monotonic()
            self._on_part(*self._now)

    def said(self, said: Mapping[str, Any]) -> None:
        """Hear of a new part."""
        self._now, self.doing = (int(said["done"]), int(said["parts"])), str(said["doing"])
        if self.doing:
            self._say(f"compiles and times {self.doing} ({self._now[0] + 1} of {self._now[1]})")
        self._on_part(*self._now)
