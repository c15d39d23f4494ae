"""Files of one's own on the Train page: choose one that is kept, or bring one and correct how it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.tasks.own import keeping
from hybridlab.tasks.own.reading import MAX_BYTES
from hybridlab.tasks.own.schema import Guess, Schema
from hybridlab.ui import shell, state
from hybridlab.ui.held import key_showing

TASKS = ("own_data", "own_numbers", "own_text")
_EXAMPLE = "example"


def with_unit(
    task: Mapping[str, Any] | None, params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return a task's entry with the unit of the data that its parameters name, where that is a file of numbers."""
    if task is None or task["name"] != "own_numbers" or params.get("data", _EXAMPLE) == _EXAMPLE:
        return task
    try:
        return {**task, "unit": keeping.find(str(params["data"])).schema.unit}
    except HybridLabError:  # the data was deleted since
        return {**task, "unit": ""}


def own_files(task: Mapping[str, Any]) -> None:
    """Let the user choose the file that the task learns from; nothing for tasks that bring their own data."""
    if task["name"] not in TASKS:
        return
    known = {one.id: one for one in keeping.kept() if one.task == task["name"]}
    params: dict[str, Any] = state.keep(f"task_params.{task['name']}", {})
    chosen = params.get("data", _EXAMPLE)
    options = [_EXAMPLE, *known]
    key = key_showing(f"choice.own.{task['name']}", chosen if chosen in options else _EXAMPLE)
    st.selectbox(
        "Data",
        options,
        index=options.index(chosen) if chosen in options else 0,
        key=key,
        format_func=lambda id_: f"{known[id_].name} ({id_})" if id_ in known else "the example",
        on_change=lambda: _choose(task["name"], st.session_state[key]),
    )
    if chosen in known:
        _removal(task["name"], known[chosen])
    _bring()


def _removal(task: str, one: keeping.Kept) -> None:
    """Let the user delete the chosen data, after a second click."""
    with st.popover("Delete this data", icon=":material/delete:", key=f"own.delete.{one.id}"):
        st.markdown(
            f"Delete **{shell.escaped(one.name)}** from the HybridLab folder? Runs that learnt from it keep their "
            "results but cannot be resumed. The file it came from stays where it is."
        )
        if st.button("Delete it", key=f"own.deleted.{one.id}", icon=":material/delete:"):
            try:
                keeping.remove(one.id)
            except HybridLabError as error:
                shell.problems(error.problems)
                return
            _choose(task, _EXAMPLE)
            st.rerun()


def _choose(task: str, id_: str) -> None:
    name = f"task_params.{task}"
    state.put(name, {**state.keep(name, {}), "data": id_})


def _bring() -> None:
    count = state.keep("own_uploads", 0)
    file = st.file_uploader(
        "Bring a file: text, CSV, Parquet or npz",
        max_upload_size=MAX_BYTES // 2**20,
        key=f"own.upload.{count}",
    )
    if file is None:
        return
    content = file.getvalue()
    try:
        guess = keeping.look(content, file.name)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    wanted = _corrected(guess, f"own.{count}")
    for note in guess.notes:
        st.caption(shell.escaped(note))
    if st.button("Keep it and learn from it", icon=":material/save:", key="own.keep"):
        try:
            made = keeping.add(content, file.name, wanted)
        except HybridLabError as error:
            shell.problems(error.problems)
            return
        state.put("own_uploads", count + 1)  # a fresh uploader, which lets go of the file's memory
        state.put("train_task", made.task)
        _choose(made.task, made.id)
        st.rerun()


def _corrected(guess: Guess, key: str) -> dict[str, Any]:
    """Show how the file would be taken, and return what the user makes of it."""
    schema = guess.schema
    if schema.form == "text":
        st.caption(f"Taken as text of {guess.rows:,} lines; the task is to predict each next byte.")
        return {"form": "text"}
    names = [str(column["name"]) for column in guess.columns]
    st.caption(f"Taken as {schema.form}, {guess.rows:,} samples; correct what is wrong.")
    st.dataframe(
        list(guess.columns), hide_index=True, column_config={"answers": "as answers, taken as"}
    )
    label = st.selectbox("Answer", names, index=names.index(schema.label), key=f"{key}.label")
    guessed = next((str(c["answers"]) for c in guess.columns if c["name"] == label), "")
    answers = _as(label, guessed, key)
    if schema.form == "arrays":
        readable = [name for name in names if name != label]
        first = readable.index(schema.inputs[0]) if schema.inputs[0] in readable else 0
        inputs = [st.selectbox("Read", readable, index=first, key=f"{key}.{label}.input")]
        shapes = ("series", "image")
        shape = st.selectbox("As", shapes, index=shapes.index(schema.shape), key=f"{key}.shape")
        return {"label": label, "inputs": inputs, "shape": shape, **answers}
    numbers = [
        str(c["name"]) for c in guess.columns if c["kind"] == "number" and c["name"] != label
    ]
    before = [name for name in numbers if name in (*schema.inputs, schema.label)]
    inputs = st.multiselect(
        "Read, in this order", numbers, default=before, key=f"{key}.{label}.inputs"
    )
    return {"label": label, "inputs": inputs, **answers}


def _as(label: str, guessed: str, key: str) -> dict[str, str]:
    """Let the user say whether the answers are classes or numbers, and of what; it begins with the guess."""
    choices = ("classes", "numbers")
    left, right = st.columns(2)
    answers = left.radio(
        "Answers are",
        choices,
        index=choices.index(guessed or "classes"),
        horizontal=True,
        key=f"{key}.{label}.answers",
        help=Schema.model_fields["answers"].description,
    )
    if answers != "numbers":
        return {"answers": answers}
    unit = right.text_input(
        "Counted in",
        max_chars=30,
        placeholder="kg, years, … or nothing",
        key=f"{key}.unit",
        help=Schema.model_fields["unit"].description,
    )
    return {"answers": answers, "unit": unit.strip()}
