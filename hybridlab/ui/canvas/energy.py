"""A training's measured energy, shared out among its components by the time that a profile measured.

No counter tells components apart. What a step took is measured, and so is each component's share of a step's time; that
energy follows time is assumed, and said wherever the figures stand.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from hybridlab.runs.home import run_folder
from hybridlab.runs.profile_request import PROFILE
from hybridlab.runs.record import Run

ENERGY = "energy.json"
"""Where a training keeps what its counters told, in its folder."""


def per_step(run: Run) -> tuple[float | None, str]:
    """Return the measured joules of one step of a training; where there are none, None and a sentence that says why."""
    figures = dict((run.result or {}).get("energy") or {})
    if not figures:
        figures = _so_far(run_folder(run.id) / ENERGY)
    joules = figures.get("joules_per_step")
    if joules is not None:
        return float(joules), ""
    if reason := figures.get("not_measured"):
        return None, f"No energy was measured in this training: {reason}."
    if run.state.active:
        return None, "The training's energy is told with its first checkpoint."
    return None, "This training did not look for an energy counter. Train it again."


def _so_far(file: Path) -> dict[str, Any]:
    """Return what a training that has no result kept at its last checkpoint; nothing where it has none."""
    try:
        attempts = json.loads(file.read_text(encoding="utf-8"))["attempts"]
        steps = sum(int(one["to_step"]) - int(one["from_step"]) for one in attempts)
        joules = [one["joules"] for one in attempts]
        reasons = [str(one["reason"]) for one in attempts if one["reason"]]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    if reasons or None in joules:
        return {"not_measured": "; ".join(dict.fromkeys(reasons)) or "no reason was noted"}
    return {"joules_per_step": sum(joules) / steps} if steps else {}


def shared_out(step_j: float, profile: Run) -> dict[str, float]:
    """Return joules of one step by address on the canvas: a component's share of the step's time, repeats together.

    Groups have the sum of what is in them. The loss, the update and what has no name keep their share, so all
    components together are less than the step. Empty where the profile cannot be read.
    """
    return {at: step_j * share for at, share in _shares(run_folder(profile.id) / PROFILE).items()}


@functools.lru_cache(maxsize=32)
def _shares(folder: Path) -> dict[str, float]:
    """Return shares of a step's time by address; a profile that is done never changes."""
    try:
        listed = json.loads((folder / "profile.json").read_text(encoding="utf-8"))["components"]
        pairs = [(str(one["path"]), float(one["share"])) for one in listed]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    found: dict[str, float] = {}
    for path, share in pairs:
        if not path or path.startswith("("):  # what is no component's
            continue
        steps = [step for step in path.split(".") if not step.isdigit()]
        for end in range(1, len(steps) + 1):
            address = ".".join(steps[:end])
            found[address] = found.get(address, 0.0) + share
    return found
