"""Stages of a training: a table of them, a suggestion from easy to hard, and the stage that a run is in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hybridlab.errors import Problem
from hybridlab.runs.record import Run
from hybridlab.training.stage_spec import StageSpec, Until, misfits, stage_names
from hybridlab.ui import shell, state
from hybridlab.ui.live.reader import reader
from hybridlab.ui.schema import fields
from hybridlab.ui.train.rows import Rows, begun, columns_shown, took, written
from hybridlab.validation import problems_from

_CONDITIONS = ("steps", "train_accuracy", "train_loss", "metric")
_OF_UNTIL = (*_CONDITIONS, "metric_of", "window")
_MAPPINGS = ("task_params", "grow", "open")
_WHOLE = ("steps", "window", "experts")
_TITLES = {
    "name": "Name",
    "task_params": "Task",
    "steps": "Most steps",
    "train_accuracy": "Until accuracy",
    "train_loss": "Until loss",
    "metric": "Until score",
    "freeze": "Freeze",
    "unfreeze": "Unfreeze",
    "grow": "Add repeats",
    "new_repeats": "Begin as",
    "open": "Open",
    "experts": "Experts",
    "metric_of": "Score on",
    "window": "Window",
}
"""The columns, from left to right, as people read them."""
_FIRST = ("name", "task_params", *_CONDITIONS)
_OF_PARTS = ("freeze", "unfreeze", "grow", "new_repeats", "open", "experts")
_SCORED = ("metric_of", "window")
_COLUMNS = (*_FIRST, *_OF_PARTS, *_SCORED)
_VIEWS = {
    "Task and end": _FIRST,
    "What learns": ("name", *_OF_PARTS),
    "What is scored": ("name", "metric", *_SCORED),
}
"""Columns that are shown at once."""
_VERSION = "train.stages.version"
_SHARES = (4, 2, 1)
"""A suggestion has a quarter, a half and all of what makes the task hard."""


def stages(
    changed: Mapping[str, Any],
    steps: int,
    task: Mapping[str, Any],
    params: Mapping[str, Any],
    change: Callable[[str, Any], None],
    checked: Callable[[], Sequence[Problem]] = tuple,
) -> None:
    """Show the stages of the settings as a table that can be changed; ``change`` takes new ones.

    ``checked`` says what of the settings does not go with task and design, as far as that is known by now.
    """
    now = [dict(stage) for stage in changed.get("stages", ())]
    label = f"Stages ({len(now)})" if now else "Stages"
    with st.expander(label, icon=":material/stairs:", key="train.stages"):
        st.caption(
            "A training may begin with something easier. Stages come from top to bottom, each until its steps are over "
            "or what it waits for is reached; the last one goes to the end. Scores are always those of the task as it "
            "is set above."
        )
        _suggestion(now, steps, task, params, change)
        _how(now, task)
        used = {name for stage in now for name in {**stage, **_until(stage)}}
        shown = columns_shown(_VIEWS, used, "train.stages.columns")
        table = f"train.stages.{task['name']}.{state.keep(_VERSION, 0)}.{'.'.join(shown)}"
        key, rows = begun(table, now)
        edited = st.data_editor(
            _frame(rows),
            key=key,
            num_rows="dynamic",
            placeholder="–",
            hide_index=True,
            column_order=shown,
            column_config=_configured(),
            alt="Table of stages",
        )
        taken, problems = _taken(edited, now)
        if taken != now and not problems:
            change("stages", taken)
            took(table, taken)
            st.rerun()  # what stands above the table tells of its rows
        problems = [*problems, *_wrong(taken, steps)]
        if taken and not problems:
            problems = [each for each in checked() if each.path.startswith("stages")]
        shell.problems(replace(each, path=cell(each.path, taken)) for each in problems)


def _how(now: list[dict[str, Any]], task: Mapping[str, Any]) -> None:
    """Say how a stage is written."""
    known = [field for field in fields(task["params_schema"]) if type(field.default) is int]
    example = ", ".join(f"{field.name}: {max(1, field.default // 2)}" for field in known[:2])
    how = f"Under Task, write what is other than in the task's own settings, like `{example}`."
    none = "" if now else "There are no stages yet; write the first one into the empty row. "
    if none or example:
        st.caption(none + (how if example else ""))


def _suggestion(
    now: list[dict[str, Any]],
    steps: int,
    task: Mapping[str, Any],
    params: Mapping[str, Any],
    change: Callable[[str, Any], None],
) -> None:
    """Offer three stages in which one of the task's parameters, a whole number, goes up to what is set."""
    known = {field.name: field for field in fields(task["params_schema"])}
    known = {name: field for name, field in known.items() if type(field.default) is int}
    if not known:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("What gets harder", list(known), width=220, key="train.stages.what")
        full = int(params.get(name, known[name].default))
        st.button(
            "Three stages from easy to hard",
            icon=":material/add:",
            key="train.stages.suggest",
            disabled=bool(now) or full < _SHARES[0] or steps < len(_SHARES),
            help="A quarter, a half and all of it. Each of the first two takes a quarter of the steps at "
            "most, and ends once 9 of 10 answers are right, where answers are counted; a start to be "
            "compared with a training without it.",
            on_click=_suggest,
            args=(name, full, steps, task["measure"] == "accuracy", change),
        )


def _suggest(
    name: str, full: int, steps: int, counted: bool, change: Callable[[str, Any], None]
) -> None:
    made: list[dict[str, Any]] = []
    for share in _SHARES[:-1]:
        until = {"steps": max(1, steps // 4)} | ({"train_accuracy": 0.9} if counted else {})
        part = {"task_params": {name: full // share}, "until": until}
        made.append({"name": f"{name} {full // share}", **part})
    change("stages", [*made, {"name": f"{name} {full}"}])
    show_anew()


def show_anew() -> None:
    """Let the table start anew from the settings: they were changed elsewhere than in it."""
    state.put(_VERSION, state.keep(_VERSION, 0) + 1)


def _frame(now: Rows) -> pd.DataFrame:
    rows = [{**stage, **_until(stage)} for stage in now]
    columns = {name: [_shown(row.get(name)) for row in rows] for name in _COLUMNS}
    frame = pd.DataFrame(columns)
    for name in _COLUMNS:
        if name in (*_CONDITIONS, "experts", "window"):
            frame[name] = pd.to_numeric(frame[name]).astype("float64")
        else:
            frame[name] = frame[name].astype("object")
    return frame


def _until(stage: Mapping[str, Any]) -> dict[str, Any]:
    found = stage.get("until")
    return {"steps": found} if isinstance(found, int) else dict(found or {})


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{_key(str(key))}: {_scalar(one)}" for key, one in value.items())
    return value


def _key(name: str) -> str:
    """Write a key as YAML reads it: a path that begins with * would be an alias."""
    return name if name[:1].isalnum() else json.dumps(name)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _taken(
    edited: pd.DataFrame, now: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows as settings and what cannot be read; settings that have no column stay."""
    hidden = {str(stage.get("name")): stage for stage in now}
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for row in edited.to_dict("records"):
        given = written(row, _WHOLE)
        if not given.get("name"):
            continue
        before = hidden.get(str(given["name"]), {})
        kept = {k: v for k, v in before.items() if k not in (*_COLUMNS, "until")}
        until = {k: v for k, v in _until(before).items() if k not in _OF_UNTIL}
        until = {name: given.pop(name) for name in _OF_UNTIL if name in given} | until
        for name in _MAPPINGS:
            if name in given:
                try:
                    given[name] = _mapping(str(given[name]))
                except ValueError:
                    path = f"stages[{len(found)}].{name}"
                    problems.append(
                        Problem(path, "cannot be read", "pairs: 2, length: 32", str(given[name]))
                    )
        found.append({**kept, **given, **({"until": until} if until else {})})
    return found, problems


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load("{" + text + "}")
    except YAMLError:
        raise ValueError(text) from None
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and value is not None for key, value in found.items()
    ):
        raise ValueError(text)
    return found


def _wrong(taken: list[dict[str, Any]], steps: int) -> list[Problem]:
    """Return what is wrong with stages by themselves, whatever they are for."""
    made, problems = [], []
    for place, stage in enumerate(taken):
        try:
            made.append(StageSpec.model_validate(stage))
        except ValidationError as error:
            problems += problems_from(error, f"stages[{place}]", known=list(StageSpec.model_fields))
    if not problems:
        parts = (sentence.partition(": ") for sentence in misfits(made, steps))
        problems = [Problem(path, message) for path, _, message in parts]
    return problems


def cell(path: str, taken: Sequence[Mapping[str, Any]]) -> str:
    """Say which cell of the table a path of the settings is, such as ``Stage easy, Most steps``.

    A path of another setting stays as it is.
    """
    found = re.fullmatch(r"stages\[(\d+)\]\.?(?:until\.)?(\w*).*", path)
    if found is None or int(found[1]) >= len(taken):
        return "Stages" if path.startswith("stages") else path
    stage = f"Stage {taken[int(found[1])].get('name')}"
    column = _TITLES.get("steps" if found[2] == "until" else found[2])
    return f"{stage}, {column}" if column else stage


def _configured() -> dict[str, Any]:
    config = st.column_config

    def told(name: str) -> str:
        fields = Until.model_fields if name in _OF_UNTIL else StageSpec.model_fields
        return str(fields[name].description)

    return {
        "name": config.TextColumn(
            "Name", width=105, required=True, max_chars=40, help=told("name")
        ),
        "steps": config.NumberColumn(
            "Most steps", width=100, min_value=1, step=1, help=told("steps")
        ),
        "metric": config.NumberColumn(_TITLES["metric"], width=100, help=told("metric")),
        "train_accuracy": config.NumberColumn(
            _TITLES["train_accuracy"],
            width=120,
            min_value=0.0,
            max_value=1.0,
            help=told("train_accuracy"),
        ),
        "train_loss": config.NumberColumn(
            "Until loss", width=95, min_value=0.0, help=told("train_loss")
        ),
        "task_params": config.TextColumn(
            _TITLES["task_params"], width=140, help=told("task_params")
        ),
        "freeze": config.TextColumn(_TITLES["freeze"], width=110, help=told("freeze")),
        "unfreeze": config.TextColumn(_TITLES["unfreeze"], width=110, help=told("unfreeze")),
        "grow": config.TextColumn(_TITLES["grow"], width=110, help=told("grow")),
        "new_repeats": config.SelectboxColumn(
            _TITLES["new_repeats"],
            width=100,
            options=["copied", "drawn"],
            help=told("new_repeats"),
        ),
        "open": config.TextColumn(_TITLES["open"], width=100, help=told("open")),
        "experts": config.NumberColumn(
            _TITLES["experts"], width=75, min_value=1, step=1, help=told("experts")
        ),
        "metric_of": config.SelectboxColumn(
            _TITLES["metric_of"], width=90, options=["run", "stage"], help=told("metric_of")
        ),
        "window": config.NumberColumn(
            _TITLES["window"], width=90, min_value=1, step=1, help=told("window")
        ),
    }


def stage_of(run: Run) -> str:
    """Say which stage a run is in, to stand beside its steps; empty where it has none."""
    names = stage_names(run.spec.get("training"))
    if not names or not run.step:
        return ""
    _, values = reader(run.id).curve("stage")
    place = next((int(value) for value in reversed(values) if value is not None), 0)
    place = min(place, len(names) - 1)
    return f"stage {names[place]} ({place + 1} of {len(names)})"
