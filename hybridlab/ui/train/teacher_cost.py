"""What a teacher adds to each step of a training, predicted: its forward, and its weights in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hybridlab.ui import predictions, state
from hybridlab.ui.predictions import Shapes
from hybridlab.ui.train.teachers import text_of

_FLOAT32_BYTES = 4


class TeacherCost(NamedTuple):
    """What a teacher takes: milliseconds of a step, and bytes."""

    step_ms: float = 0.0
    peak_bytes: float = 0.0


def teacher_cost(settings: Mapping[str, Any], shapes: Shapes, wait_s: float) -> TeacherCost | None:
    """Return what a teacher takes; nothing without one or where it cannot be read; None while it is asked for.

    The forward's share of a predicted step is that of its FLOPs. Where samples come again it is run once for each, so
    that the time is an upper bound.
    """
    text = text_of(dict(settings.get("teacher") or {}))
    if not text:
        return TeacherCost()
    owner = f"{state.session_name()}.train.teacher"
    answer = predictions.predict(text, shapes, owner, wait_s)
    if answer is None:
        return None
    if answer.problems:
        return TeacherCost()
    found = answer.value
    share = found["flops_forward"] / max(1, found["flops_step"])
    return TeacherCost(found["step_ms"] * share, _FLOAT32_BYTES * found["params"])
