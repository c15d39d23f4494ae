"""Several tasks on one trunk, chosen before a training: which, how they share its steps, and how they are balanced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from pydantic import ValidationError

from hybridlab.training.several_spec import (
    BALANCINGS,
    MOST_TASKS,
    OF_GRADIENTS,
    SAMPLINGS,
    TOGETHER,
    SeveralSpec,
    TaskPart,
)
from hybridlab.ui import forms, predictions, shell
from hybridlab.ui.held import key_showing
from hybridlab.ui.schema import fields
from hybridlab.validation import problems_from

_SHOWN = ("sampling", "balancing")
_OF = {
    "temperature": ("temperature",),
    "gradnorm": ("gradnorm_alpha", "gradnorm_rate"),
    "dwa": ("dwa_every", "dwa_temperature"),
    "cagrad": ("cagrad_c",),
}
"""The settings that go with a choice."""


def several(
    task: Mapping[str, Any],
    changed: Mapping[str, Any],
    change: Callable[[str, Any], None],
) -> None:
    """Let the user put tasks beside the chosen one, and say how they share steps and weigh against each other."""
    now: dict[str, Any] = dict(changed.get("tasks") or {})
    parts = [dict(part) for part in now.get("of", ())]
    others = [str(part["task"]) for part in parts[1:]]
    label = f"Several tasks ({len(parts)})" if parts else "Several tasks"
    with st.expander(label, icon=":material/account_tree:", key="train.several"):
        st.caption(
            "One network may learn several tasks that read the same input. They share all of it but its last part, "
            "the head, of which each task has its own; the task chosen above is the first."
        )
        entries = {e["name"]: e for e in predictions.tasks() if _fits(e, task)}
        there = [name for name in others if name in entries]
        key = key_showing(f"train.several.{task['name']}", there)
        st.multiselect(
            "Tasks learnt beside it",
            list(entries),
            default=there,
            key=key,
            format_func=lambda name: str(entries[name]["title"]),
            placeholder="no other task" if entries else "no other task reads the same input",
            max_selections=MOST_TASKS - 1,
            on_change=lambda: change("tasks", _with(now, task["name"], st.session_state[key])),
        )
        if not parts:
            return
        _how(now, change)
        try:
            SeveralSpec.model_validate(now)
        except ValidationError as error:
            shell.problems(problems_from(error, "tasks"))


def _fits(entry: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Say whether a task may stand beside the chosen one: another one that reads what that reads."""
    same = all(entry[key] == task[key] for key in ("input_node", "input_kind", "input_shape"))
    return same and entry["name"] != task["name"]


def _with(now: Mapping[str, Any], task: str, others: Sequence[str]) -> dict[str, Any] | None:
    """Return the settings with these tasks beside the first; None where there are none. Weights stay."""
    if not others:
        return None
    known = {str(part["task"]): dict(part) for part in now.get("of", ())}
    return {**now, "of": [{**known.get(name, {}), "task": name} for name in (task, *others)]}


def settled(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which the first of several tasks is the chosen one, with its parameters.

    The others take over those that they have too, such as a length, so that all go on reading the same samples.
    """
    now = settings.get("tasks")
    if not now:
        return settings
    params = dict(settings.get("task_params") or {})
    first, *others = (dict(part) for part in now["of"])
    parts = [{**first, "task": settings["task"], "task_params": params}]
    for part in others:
        entry = predictions.task(str(part["task"])) or {}
        theirs = entry.get("params_schema", {}).get("properties", {})
        taken = {key: value for key, value in params.items() if key in theirs}
        parts.append({**part, "task_params": {**taken, **dict(part.get("task_params") or {})}})
    return {**settings, "tasks": {**now, "of": parts}}


def _how(now: dict[str, Any], change: Callable[[str, Any], None]) -> None:
    """Show sampling and balancing, what they mean, the settings that go with each, and the weight of each task."""
    known = {field.name: field for field in fields(SeveralSpec.model_json_schema())}

    def put(name: str, value: Any) -> None:
        changed = {**now, name: value}
        if name == "balancing" and value in OF_GRADIENTS:
            sampling = changed.get("sampling", "joint")
            changed["sampling"] = sampling if sampling in TOGETHER else "joint"
        change("tasks", changed)

    chosen = {name: now.get(name, known[name].default) for name in _SHOWN}
    names = [*_SHOWN, *(name for value in chosen.values() for name in _OF.get(value, ()))]
    forms.parameters([known[name] for name in names], now, "train.several.how", put, columns=2)
    words, paper = BALANCINGS[str(chosen["balancing"])]
    source = f" [Paper]({paper})." if paper else ""
    st.caption(f"Sampling: {SAMPLINGS[str(chosen['sampling'])]}. Balancing: {words}.{source}")
    _weights(now, change)


def _weights(now: Mapping[str, Any], change: Callable[[str, Any], None]) -> None:
    """Let the user say how much each task's loss counts, before what balancing makes of it."""
    (weight,) = (f for f in fields(TaskPart.model_json_schema()) if f.name == "weight")
    parts = [dict(part) for part in now["of"]]
    names = [
        str((predictions.task(str(part["task"])) or part).get("title", part["task"]))
        for part in parts
    ]
    wished = [
        replace(weight, name=str(place), title=f"Weight of {name}")
        for place, name in enumerate(names)
    ]
    given = {str(place): part["weight"] for place, part in enumerate(parts) if "weight" in part}

    def put(place: str, value: Any) -> None:
        parts[int(place)]["weight"] = value
        change("tasks", {**now, "of": parts})

    forms.parameters(wished, given, "train.several.weight", put, columns=2)
