"""From a remedy to the form of a new training: the run's settings and design with the remedy in them, and a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run
from hybridlab.training.remedies import Remedy, applied
from hybridlab.training.spec import TrainSpec
from hybridlab.ui import shell, state
from hybridlab.ui.train import stages
from hybridlab.ui.train.groups import show_anew
from hybridlab.ui.train.setup import DESIGN, NAME

_OF = "train_name_of"


def set_up(run: Run, task: Mapping[str, Any], remedy: Remedy) -> None:
    """Open the form of a new training like a run's, with a remedy applied; nothing is started."""
    before = str(run.spec.get("architecture", ""))
    try:
        text, settings = applied(remedy, before, dict(run.spec.get("training") or {}))
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    preset = run.spec.get("preset")
    if text == before and preset and _is_preset(str(preset), text):
        state.put("train_source", f"preset {preset}")
    else:
        state.open_design(text, f"run {run.name} with: {remedy.title}")
        state.put("train_source", DESIGN)
    name = str(task["name"])
    state.put("train_task", name)
    state.put(f"task_params.{name}", dict(settings.get("task_params") or {}))
    state.put(f"settings.{name}", _changed(settings, task))
    state.put(NAME, f"{run.name} · {remedy.title}")
    state.put(_OF, run.name)
    show_anew()
    stages.show_anew()
    shell.go(shell.TRAIN)


def name_field() -> str:
    """Show the name that a remedy gave the next run, to be changed or left empty; empty where none did."""
    kept = state.keep(NAME, "")
    if not kept:
        return ""
    said = f"As {shell.escaped(state.keep(_OF, ''))}, with a remedy; compare the two under Runs."
    st.caption(said)
    given = st.text_input(
        "Name of the run", kept, key=f"train.name.{kept}", max_chars=200, help="Empty: as usual."
    )
    return str(given or "").strip()


def _is_preset(name: str, text: str) -> bool:
    try:
        return library.find(name).read_text(encoding="utf-8") == text
    except (HybridLabError, OSError):
        return False


def _changed(settings: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from what the task's form starts with."""
    defaults = {name: field.default for name, field in TrainSpec.model_fields.items()}
    defaults |= dict(task["default_training"])
    own = ("task", "task_params")
    return {
        name: value
        for name, value in settings.items()
        if name not in own and _plain(value) != _plain(defaults.get(name))
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
