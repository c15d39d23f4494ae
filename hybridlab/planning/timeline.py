"""What is in memory over one step with a plan, predicted: by category, by component, and at the peak."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridlab.architecture.infer import infer
from hybridlab.planning.planner import Planner, stream_us
from hybridlab.planning.record import Plan
from hybridlab.profiling.memory_tables import live_curves
from hybridlab.trace.live import at_peak


def timeline(made: Planner, plan: Plan) -> dict[str, Any]:
    """Predict the step that a plan makes and return what is there when, as plain JSON.

    Keys: ``peak_bytes``; ``category`` and ``component``, each with ``ms`` (moments from the start of the step, by the
    predicted times of its operators) and ``parts`` (bytes at these moments by name, the largest first); ``at_peak``,
    rows of category, component and bytes, the largest first.

    Raises:
        RunError: the plan was made for another architecture.
    """
    stream = made.stream(plan)
    inference = infer(made.architecture, made.input_type)
    parts = {**inference.group_norms, **inference.slots}
    factors = {path: made.calibration.factors(slot) for path, slot in parts.items()}
    took = stream_us(stream, factors, made.roofline)
    starts = np.concatenate([[0.0], np.cumsum(took)])
    whole = (
        starts[-1] or 1.0
    )  # the update and the loss are known as a whole only: the axis ends with the step
    clock = starts[:-1] * (plan.predicted.step_ms / whole)
    ticks = stream.numbers("tick")
    found: dict[str, Any] = {"peak_bytes": stream.peak_bytes}
    for by in ("category", "component"):
        moments, curves = live_curves(stream, by)
        found[by] = {
            "ms": np.round(np.interp(moments, ticks, clock), 6).tolist(),
            "parts": {name: sizes.tolist() for name, sizes in curves.items()},
        }
    found["at_peak"] = at_peak(stream).to_pylist()
    return found
