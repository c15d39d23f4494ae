"""Learning from a teacher: who teaches, what of it counts, in which order, and which components are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from hybridlab.architecture.complete import complete
from hybridlab.architecture.spec import Architecture
from hybridlab.training.flow import parts_of
from hybridlab.training.teacher_layers import suggested
from hybridlab.training.teacher_spec import HiddenSpec, LogitsSpec, MatricesSpec, TeacherSpec
from hybridlab.ui import forms, predictions, shell, state
from hybridlab.ui.held import key_showing
from hybridlab.ui.schema import Field, fields
from hybridlab.ui.train.layer_map import layer_map
from hybridlab.ui.train.rows import begun, took
from hybridlab.ui.train.setup import kept_settings
from hybridlab.ui.train.teachers import WHO, Teacher, bring, named, teachers
from hybridlab.validation import problems_from

KEY = "train.teacher"
_VERSION = f"{KEY}.version"
_PARTS: Mapping[str, tuple[str, type[LogitsSpec] | type[HiddenSpec] | type[MatricesSpec]]] = {
    "logits": ("Teacher's answers", LogitsSpec),
    "hidden": ("Hidden states", HiddenSpec),
    "matrices": ("Mixing matrices", MatricesSpec),
}
_ORDER = (("matrices",), ("hidden",), ("logits", "hard"))
_STAGE_STEPS = 100
_TITLES = {
    "hard": "Weight of the right answers",
    "feed": "Compared components read what comes from the",
    "copy_weights": "Start with the teacher's weights where they fit",
    "cache_mib": "Room to keep what the teacher says",
}
Change = Callable[[Mapping[str, Any]], None]


def section(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Show who teaches and what of it counts; return the settings with it."""
    changed, change = kept_settings(task)
    now = dict(changed.get("teacher") or {})

    def update(new: Mapping[str, Any]) -> None:
        kept = dict(kept_settings(task)[0].get("teacher") or {})
        found = {**kept, **new}
        change("teacher", {k: v for k, v in found.items() if v or k not in WHO} if new else None)

    label = "Learn from a teacher (on)" if now else "Learn from a teacher"
    with st.expander(label, icon=":material/school:", key=KEY):
        known = teachers(task)
        st.caption(
            "The network learns from a finished run on this task, or from imported weights: from their answers and, if "
            "you like, from what their components give on the way. The two may have different architectures."
        )
        _choice(known, now, update)
        if (new := bring(known)) is not None:
            _take(new, update)
            st.rerun()
        teacher = next((one for one in known if one.key == named(now)), None)
        if teacher is not None:
            _losses(now, update)
            _order(now, update)
            if now.get("hidden") is not None or now.get("matrices") is not None:
                _layers(teacher, text, task, now, update)
        if now:
            try:
                TeacherSpec.model_validate(now)
            except ValidationError as error:
                shell.problems(problems_from(error, "teacher"))
    now = dict(kept_settings(task)[0].get("teacher") or {})
    others = {name: value for name, value in settings.items() if name != "teacher"}
    return {**others, "teacher": now} if now else others


def _take(teacher: Teacher, update: Change) -> None:
    """Let somebody teach, with the map of components that suits."""
    update({**dict.fromkeys(WHO), **teacher.settings, "layers": []})
    state.put(_VERSION, state.keep(_VERSION, 0) + 1)


def _choice(known: Sequence[Teacher], now: Mapping[str, Any], update: Change) -> None:
    """Let the user choose who teaches, or nobody."""
    there = {one.key: one for one in known}
    options = ["", *there]
    kept = named(now)
    if kept and kept not in there:
        options.append(kept)
    key = key_showing(f"{KEY}.run", kept)

    def choose() -> None:
        given = st.session_state[key]
        if given in there:
            _take(there[given], update)
        elif not given:
            update({})
            state.put(_VERSION, state.keep(_VERSION, 0) + 1)

    st.selectbox(
        "Teacher",
        options,
        index=options.index(kept),
        key=key,
        format_func=lambda one: there[one].label if one in there else one or "nobody",
        on_change=choose,
    )
    if not known:
        st.caption("No run on this task is finished yet; train a teacher first, or import one.")


def _losses(now: Mapping[str, Any], update: Change) -> None:
    """Show each loss with its weight, to be switched on and off."""
    own = _settings("hard")
    forms.parameters(own, now, KEY, lambda name, value: update({name: value}), columns=2)
    for name, (title, spec) in _PARTS.items():
        given = now.get(name, {} if name == "logits" else None)
        left, right = st.columns([1, 2])
        with left:
            key = key_showing(f"{KEY}.{name}.on", given is not None)

            def switch(name: str = name, key: str = key) -> None:
                update({name: {} if st.session_state[key] else None, "phases": []})

            st.toggle(
                title,
                value=given is not None,
                key=key,
                help=TeacherSpec.model_fields[name].description,
                on_change=switch,
            )
        if given is not None:
            with right:

                def set_one(field: str, value: Any, name: str = name, given: Any = given) -> None:
                    update({name: {**given, field: value}})

                wished = fields(spec.model_json_schema())
                forms.parameters(wished, given, f"{KEY}.{name}", set_one, columns=2)


def _settings(*names: str) -> list[Field]:
    """Return settings of a teacher, called by what they mean."""
    known = fields(TeacherSpec.model_json_schema())
    return [replace(field, title=_TITLES[field.name]) for field in known if field.name in names]


def staged(now: Mapping[str, Any], steps: int = _STAGE_STEPS) -> list[dict[str, Any]]:
    """Return phases in MOHAWK's order for the losses that are on: mixing, hidden states, then answers to the end."""
    on = {"hard"} if now.get("hard", 0.5) else set()
    on |= {name for name in _PARTS if now.get(name, {} if name == "logits" else None) is not None}
    phases = [
        {"losses": [name for name in group if name in on], "steps": steps} for group in _ORDER
    ]
    phases = [phase for phase in phases if phase["losses"]]
    if phases:
        phases[-1].pop("steps")
    return phases


def _order(now: Mapping[str, Any], update: Change) -> None:
    """Let the user put the losses one after the other, and start components as the teacher's."""
    phases = list(now.get("phases") or ())
    key = key_showing(f"{KEY}.staged", bool(phases))
    compared = any(now.get(name) is not None for name in ("hidden", "matrices"))
    wished = _settings(*(("feed",) if compared else ()), "copy_weights", "cache_mib")
    left, right = st.columns(2)
    with left:
        st.toggle(
            "One loss after the other",
            value=bool(phases),
            key=key,
            help="Mixing first, then hidden states, then answers, as attention is turned into a state-space model.",
            on_change=lambda: update({"phases": staged(now) if st.session_state[key] else []}),
        )
    with right:
        if phases and phases[0].get("steps"):
            steps = int(phases[0]["steps"])
            number = key_showing(f"{KEY}.stage_steps", steps)
            st.number_input(
                "Steps of each phase but the last",
                1,
                value=steps,
                key=number,
                on_change=lambda: update({"phases": staged(now, int(st.session_state[number]))}),
            )
    forms.parameters(wished, now, KEY, lambda name, value: update({name: value}), columns=2)


def _layers(
    teacher: Teacher, text: str, task: Mapping[str, Any], now: Mapping[str, Any], update: Change
) -> None:
    """Show which components are compared, as a table that begins with a suggestion."""
    theirs, own = (_whole(each, task) for each in (teacher.text, text))
    if theirs is None or own is None:
        return
    kinds = _kinds()
    offered = [pair.model_dump() for pair in suggested(theirs, own, kinds)]
    pairs = [dict(pair) for pair in now.get("layers") or ()] or offered
    st.caption("Components that are compared; suggested are mixers at the same relative depth.")
    table = f"{KEY}.layers.{state.keep(_VERSION, 0)}"
    key, rows = begun(table, pairs)
    edited = st.data_editor(
        pd.DataFrame(list(rows), columns=["teacher", "student"]).astype("object"),
        key=key,
        num_rows="dynamic",
        placeholder="–",
        hide_index=True,
        column_config={
            "teacher": st.column_config.SelectboxColumn(
                "Teacher", options=[part.path for part in parts_of(theirs, kinds)], required=True
            ),
            "student": st.column_config.SelectboxColumn(
                "Student", options=[part.path for part in parts_of(own, kinds)], required=True
            ),
        },
        alt="Table of compared components",
    )
    taken = [
        {"teacher": str(row["teacher"]), "student": str(row["student"])}
        for row in edited.to_dict("records")
        if row["teacher"] and row["student"] and not pd.isna(row["teacher"])
    ]
    taken = [] if taken == offered else taken
    if taken != [dict(pair) for pair in now.get("layers") or ()]:
        update({"layers": taken})
        took(table, taken or offered)
    layer_map(
        theirs, own, kinds, pairs, lambda new: update({"layers": [] if new == offered else new})
    )
    if taken and st.button(
        "Back to the suggestion", icon=":material/restart_alt:", type="tertiary"
    ):
        update({"layers": []})
        state.put(_VERSION, state.keep(_VERSION, 0) + 1)
        st.rerun()


def _kinds() -> Callable[[str], str | None]:
    return {entry["name"]: str(entry["kind"]) for entry in predictions.components()}.get


def _whole(text: str, task: Mapping[str, Any]) -> Architecture | None:
    """Return an architecture with the input and head that the task supplies; None where it cannot be read."""
    architecture = state.parsed(text)[0]
    if architecture is None:
        return None
    return complete(architecture, task["input_node"], task["head_node"], _kinds())
