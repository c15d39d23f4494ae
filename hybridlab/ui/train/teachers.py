"""Who may teach: finished runs on the task, and imported weights; another file of weights can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store
from hybridlab.training.imported import Imported, imported, note
from hybridlab.ui import shell
from hybridlab.ui.profile.trace_open import paths_allowed

WHO = ("run", "architecture", "weights")
"""The settings of a teacher that say who it is."""
_MOST_RUNS = 200


@dataclass(frozen=True)
class Teacher:
    """One who may teach: what it is called, the settings that name it, and its architecture's text."""

    label: str
    settings: Mapping[str, str]
    text: str

    @property
    def key(self) -> str:
        """What tells it from others: its run, or its file of weights."""
        return named(self.settings)


def named(teacher: Mapping[str, Any]) -> str:
    """Return the key of the teacher that settings name; empty where they name none."""
    return str(teacher.get("run") or teacher.get("weights") or "")


def teachers(task: Mapping[str, Any]) -> list[Teacher]:
    """Return the finished trainings on a task, newest first, then what was imported."""
    try:
        runs = open_store().list(kind="train", states={RunState.DONE}, limit=_MOST_RUNS)
    except HybridLabError:
        runs = []
    found = [
        Teacher(f"{run.name} ({run.id})", {"run": run.id}, str(run.spec.get("architecture", "")))
        for run in runs
        if dict(run.spec.get("training") or {}).get("task") == task["name"]
    ]
    return found + [one for each in imported() if (one := _of(each)) is not None]


def text_of(teacher: Mapping[str, Any]) -> str:
    """Return the text of the architecture that a teacher's settings name; empty where there is none to read."""
    try:
        if run := teacher.get("run"):
            return str(open_store().get(str(run)).spec.get("architecture", ""))
        place = teacher.get("architecture")
        return library.find(str(place)).read_text(encoding="utf-8") if place else ""
    except (HybridLabError, OSError, UnicodeDecodeError):
        return ""


def _of(each: Imported) -> Teacher | None:
    settings = {"architecture": each.architecture, "weights": each.weights}
    text = text_of(settings)
    label = f"{each.name}, imported ({Path(each.weights).name})"
    return Teacher(label, settings, text) if text else None


def bring(known: Sequence[Teacher]) -> Teacher | None:
    """Let the user name another file of weights, where files of this machine may be named; return who is new."""
    if not paths_allowed():
        if not any("weights" in one.settings for one in known):
            st.caption(
                "`hybridlab import hf FOLDER -o FILE --weights OUT` on the server offers a published model here."
            )
        return None
    with st.popover("Imported weights", icon=":material/upload_file:", key="train.teacher.bring"):
        st.markdown(
            "Weights that `hybridlab import hf FOLDER -o FILE --weights OUT` wrote, or a finished run's "
            "`weights.safetensors`."
        )
        place = st.text_input(
            "Architecture", key="train.teacher.file", placeholder="file, preset or saved design"
        )
        weights = st.text_input(
            "Weights", key="train.teacher.weights", placeholder="file.safetensors"
        )
        if not st.button("Offer them as a teacher", disabled=not (place and weights)):
            return None
        try:
            return _of(note(library.find(place.strip()), Path(weights.strip()).expanduser()))
        except HybridLabError as error:
            shell.problems(error.problems)
            return None
