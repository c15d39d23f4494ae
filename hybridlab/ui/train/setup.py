"""What to train, on what and how; nothing starts before its time and memory have been estimated."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from hybridlab.architecture import library
from hybridlab.architecture.complete import complete
from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.launcher import submit
from hybridlab.training.spec import MEASURED, TrainSpec
from hybridlab.ui import forms, predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.held import key_showing
from hybridlab.ui.schema import Field, fields
from hybridlab.ui.train.accelerator import accelerator_memory
from hybridlab.ui.train.groups import groups
from hybridlab.ui.train.own_files import with_unit
from hybridlab.ui.train.several import settled, several
from hybridlab.ui.train.stages import show_anew, stages
from hybridlab.ui.train.whole import with_all_heads
from hybridlab.views.diagram import diagram_info

BASIC = ("steps", "batch", "learning_rate", "eval_every", "target", "seed")
_HIDDEN = (
    "task",
    "task_params",
    "tasks",
    "groups",
    "stages",
    "teacher",
    *MEASURED,
    "pools",
    "allocator",
)
DESIGN = "current design"
PRESET = "preset"
"""What an address calls the preset that Train, Profile and Memory open with."""
_PATIENCE_S = 0.3
NAME = "train_name"
"""Under this the session keeps a name for its next run."""


def architecture_choice() -> tuple[str, str | None]:
    """Let the user choose what to train; return its text, and the preset's name where it is one."""
    options = {f"preset {entry.name}": entry for entry in library.presets()}
    options |= {f"saved {entry.name}": entry for entry in library.designs()}
    design = state.design()
    names = ([DESIGN] if design else []) + list(options)
    if not names:
        st.info(
            "There is nothing to train yet; design an architecture first.", icon=":material/info:"
        )
        return "", None
    _follow_address(names)
    chosen = _kept_choice("Architecture", "train_source", names, "preset hymba_mini", _source_name)
    if chosen == DESIGN and design is not None:
        return design.text, design.preset
    entry = options[chosen]
    try:
        return entry.text(), entry.name if chosen.startswith("preset ") else None
    except OSError as error:
        shell.problems([Problem(str(entry.path), f"cannot be read: {error.strerror}")])
        return "", None


def _follow_address(names: Sequence[str]) -> None:
    """Choose the preset that the page's address names (``?preset=NAME``), once; tell of one that is not there."""
    asked = st.query_params.get(PRESET)
    if asked is None:
        return
    del st.query_params[PRESET]
    if f"preset {asked}" in names:
        state.put("train_source", f"preset {asked}")
        return
    try:
        library.preset(asked)
    except HybridLabError as error:
        shell.problems(error.problems)


def _source_name(option: str) -> str:
    design = state.design()
    if option == DESIGN and design is not None:
        architecture = state.parsed(design.text)[0]
        return f"the design on the Design page: {architecture.name if architecture else 'not readable'}"
    return option


def preview(text: str, task: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]] = ()) -> None:
    """Show what will be trained, with the input and head that the task supplies, or the heads of several ``tasks``."""
    architecture = state.parsed(text)[0]
    if architecture is None or sum(1 for _ in architecture.walk()) > MOST_BOXES:
        return
    known = predictions.components()
    kinds = {entry["name"]: str(entry["kind"]) for entry in known}
    whole = with_all_heads(architecture, tasks) if tasks else None
    if whole is None:
        whole = complete(architecture, task["input_node"], task["head_node"], kinds.get)
    own = {node.id for node in architecture.nodes}
    supplied = [node.id for node in whole.nodes if node.id not in own]
    diagram("train.preview", diagram_info(whole, catalogue=known, supplied=supplied), height_px=440)


def task_choice() -> Mapping[str, Any]:
    """Let the user choose the task; return its entry."""
    entries = {entry["name"]: entry for entry in predictions.tasks()}
    chosen = _kept_choice(
        "Task",
        "train_task",
        list(entries),
        state.shapes().task,
        lambda name: entries[name]["title"],
    )
    entry = with_unit(entries[chosen], kept_params(entries[chosen])) or entries[chosen]
    metric = " in ".join(filter(None, (entry["metric"].replace("_", " "), entry["unit"])))
    st.caption(f"{shell.escaped(entry['summary'])} Metric: {metric}.")
    lines = [
        f"{shell.escaped(name)} {value:.3g} {entry['unit']}".rstrip()
        for name, value in entry["baselines"].items()
    ]
    if lines and not kept_params(
        entry
    ):  # they are of the task as it comes; its data card has those of other settings
        st.caption("Without learning: " + ", ".join(lines) + ".")
    return entry


def _kept_choice(label: str, name: str, options: list[str], first: str | None, written: Any) -> str:
    """Show a choice that is remembered when the page changes."""
    kept = state.keep(name, first)
    if kept not in options:
        kept = first if first in options else options[0]
    key = key_showing(f"choice.{name}", kept)
    st.selectbox(
        label,
        options,
        index=options.index(kept),
        key=key,
        format_func=written,
        on_change=lambda: state.put(name, st.session_state[key]),
    )
    return str(kept)


def settings_form(task: Mapping[str, Any], text: str = "") -> dict[str, Any]:
    """Show the settings of a training, the basic ones first; return those that differ from the task's own.

    What of them does not go with the architecture in ``text`` is told beside them, where it is known by now.
    """
    changed, change = kept_settings(task)
    params = kept_params(task)
    known = setting_fields(task)
    values = {field.name: field.default for field in known} | changed

    def change_task(name: str, value: Any) -> None:
        of_params = f"task_params.{task['name']}"
        state.put(of_params, {**state.keep(of_params, {}), name: value})

    prefix = f"train.{task['name']}"
    basic = [field for name in BASIC for field in known if field.name == name]
    forms.parameters(basic, values, prefix, change, columns=2)
    with st.expander("More settings", icon=":material/tune:", key="train.more"):
        forms.parameters(
            [f for f in known if f.name not in BASIC], values, prefix, change, columns=2
        )
    groups(changed, change)
    accelerator_memory(changed, change)
    several(task, changed, change)
    of_task = fields(task["params_schema"])
    made = settled({**changed, "task": task["name"], "task_params": params})

    def checked() -> Sequence[Problem]:
        owner = f"{state.session_name()}.train.stages"
        answer = predictions.trainable(text, made, owner, _PATIENCE_S) if text else None
        return () if answer is None else answer.problems

    stages(changed, int(values.get("steps") or 1), task, params, change, checked)
    if of_task:
        with st.expander("The task's own settings", icon=":material/dataset:", key="train.task"):
            forms.parameters(of_task, params, f"{prefix}.task", change_task, columns=2)
    if changed or params:
        st.button(
            "Back to the task's defaults",
            icon=":material/restart_alt:",
            type="tertiary",
            on_click=_reset,
            args=(task["name"],),
        )
    return made


def kept_settings(task: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[str, Any], None]]:
    """Return the settings for a task that this session has changed, and what changes one.

    Two quick changes may meet before the page is drawn in between: each adds to what is kept, not to what was drawn.
    """
    name = f"settings.{task['name']}"

    def change(setting: str, value: Any) -> None:
        state.put(name, {**state.keep(name, {}), setting: value})

    return state.keep(name, {}), change


def kept_params(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a task that this session has changed."""
    return state.keep(f"task_params.{task['name']}", {})


@functools.cache
def _schema() -> dict[str, Any]:
    return TrainSpec.model_json_schema()


def setting_fields(task: Mapping[str, Any]) -> list[Field]:
    """Return the settings with the defaults that suit the task."""
    schema = copy.deepcopy(_schema())
    for name, value in task["default_training"].items():
        if name in schema["properties"]:
            schema["properties"][name]["default"] = value
    return [field for field in fields(schema) if field.name not in _HIDDEN]


def _reset(task: str) -> None:
    state.put(f"settings.{task}", {})
    state.put(f"task_params.{task}", {})
    show_anew()


def start(text: str, preset: str | None, settings: Mapping[str, Any], name: str = "") -> None:
    """Check once more, queue the run and show it; what is wrong is told instead. It is named for what it trains."""
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(text, settings)
    if answer.problems:
        shell.problems(answer.problems)
        return
    made = answer.value
    try:
        run = submit(
            "train",
            name or made["name"],
            {"architecture": text, "training": made["training"], "preset": preset},
            device=made["training"]["device"],
        )
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    state.put(NAME, "")
    shell.go(shell.TRAIN, run=run.id)
