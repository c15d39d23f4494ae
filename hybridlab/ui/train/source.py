"""Chooses a design and a task on the forms of Train, Profile and Memory, which share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.ui import state
from hybridlab.ui.train.setup import DESIGN


def choose(text: str, preset: str | None, origin: str, settings: Mapping[str, Any]) -> None:
    """Choose a run's design, task and batch, as they were; a preset that has not changed since is chosen as such.

    ``origin`` says in words where the design comes from; ``settings`` are the run's own.
    """
    if preset and _is_preset(preset, text):
        state.put("train_source", f"preset {preset}")
    else:
        current = state.design()
        if current is None or current.text != text:
            state.open_design(text, origin)
        state.put("train_source", DESIGN)
    task = str(settings.get("task", ""))
    state.put("train_task", task)
    state.put(f"task_params.{task}", dict(settings.get("task_params") or {}))
    if "batch" in settings:
        name = f"settings.{task}"
        state.put(name, {**state.keep(name, {}), "batch": settings["batch"]})


def _is_preset(name: str, text: str) -> bool:
    try:
        return library.find(name).read_text(encoding="utf-8") == text
    except (HybridLabError, OSError):
        return False
