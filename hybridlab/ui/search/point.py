"""One trial of a study: its values, its diagram, what differs from its neighbours and the seed, and ways to go on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from hybridlab.architecture.compare import compare
from hybridlab.architecture.document import dump
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import HybridLabError
from hybridlab.runs.home import home_id
from hybridlab.runs.slots import core_count
from hybridlab.search.decisions import DECISIONS, USUAL, in_words
from hybridlab.search.known import known_landscape
from hybridlab.search.landscape import Objective
from hybridlab.search.record import TrialRow
from hybridlab.search.state import StudyState
from hybridlab.training.spec import TrainSpec
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.held import key_showing
from hybridlab.ui.labels import distinct
from hybridlab.ui.search.choose import SURE, errors_of
from hybridlab.ui.search.chosen import chosen, take
from hybridlab.ui.search.compared import compare_button, side_by_side
from hybridlab.ui.search.curves import curves
from hybridlab.ui.search.opened import NOTICE, begun, coming
from hybridlab.ui.train import setup
from hybridlab.views.diagram import diagram_info
from hybridlab.views.search_axes import title_of, written
from hybridlab.workflows.start_search import repeat_trial

_REPEATS = 3
_LONGER = 4
"""A design from a search is trained so many times as long as its trial was."""


def point(study: StudyState) -> None:
    """Show the chosen trial; without one, say how to choose."""
    row = _selected(study)
    if row is None:
        st.info(
            "Click a point, or choose a trial here, to see its design and go on with it.",
            icon=":material/touch_app:",
        )
        return
    facts = {
        f"{title_of(one.name)}, {one.source}": written(one, value) + _interval(study, row, at)
        for at, (one, value) in enumerate(zip(study.objectives, row.values, strict=False))
        if value is not None
    }
    if facts:
        for name, value in facts.items():
            st.markdown(f"{shell.escaped(name)}: **{shell.escaped(value)}**")
    if row.reason:
        st.warning(shell.escaped(row.reason), icon=":material/warning:")
    try:
        text = text_of(study, row)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if said := in_words(row.training):
        st.caption(f"Its step, as it was trained: {shell.escaped('; '.join(said))}.")
    _ways(study, row, text)
    curves(study, [row, *_beside(study, row)])
    architecture = _architecture(study, row, text)
    if architecture is not None and sum(1 for _ in architecture.walk()) <= MOST_BOXES:
        info = diagram_info(architecture, catalogue=predictions.components())
        diagram(f"search.diagram.{study.name}", info, height_px=360)
    _differences(study, row, text)


def _interval(study: StudyState, row: TrialRow, column: int) -> str:
    """Return how far a measured value varies by chance, where repeats tell it; empty elsewhere."""
    one = study.objectives[column]
    found = None if one.predicted or one.formula else errors_of(study, column)
    same = [at for at, place in enumerate(study.done) if study.rows[place].design == row.design]
    if found is None or not same or not found[0][same[0]]:
        return ""
    said = f"± {written(one, SURE * float(found[0][same[0]]))} (95 %)"
    if len(same) == 1:
        return f" {said}"
    mean = float(study.values[same, column].mean())
    return f"; its {len(same)} trials {written(one, mean)} {said}"


def text_of(study: StudyState, row: TrialRow) -> str:
    """Return a trial's architecture as YAML; empty where none was made, as for one that could not be built.

    Raises:
        HybridLabError: the study's own description cannot be read.
    """
    if row.architecture:
        return row.architecture
    if study.about.file.get("architecture") is not None or not row.design:
        return ""
    return _written(study, row.number)


@functools.lru_cache(maxsize=64)  # a study that has not changed is the same object
def _built(study: StudyState, number: int) -> Architecture:
    """Return the architecture of a trial whose landscape knows it by its design alone."""
    design = next(row.design for row in study.rows if row.number == number)
    return known_landscape(study.about.spec).architecture(design)


@functools.lru_cache(maxsize=64)
def _written(study: StudyState, number: int) -> str:
    """Return it as YAML."""
    return dump(_built(study, number))


def _architecture(study: StudyState, row: TrialRow, text: str) -> Architecture | None:
    """Return the architecture that a trial's text says; None where it has none that can be read."""
    if text and not row.architecture:
        return _built(study, row.number)
    return state.parsed(text)[0] if text else None


def _selected(study: StudyState) -> TrialRow | None:
    """Let the user choose a trial by its number, those of the front first; return it."""
    by_number = {row.number: row for row in study.rows}
    kept = chosen(study.name)
    options = [study.rows[at].number for at in study.front]
    if kept in by_number and kept not in options:
        options = [kept, *options]
    if not options:
        return None
    lead = study.objectives[0]
    labels = distinct(
        {number: f"trial {number}" + _led(by_number[number], lead) for number in options}
    )
    shown = kept if kept in options else None
    key = key_showing(f"search.{study.name}.point", shown)
    st.selectbox(
        "Point of the front",
        options,
        index=options.index(shown) if shown is not None else None,
        format_func=lambda number: labels[number],
        placeholder="Choose a trial",
        key=key,
        on_change=partial(_chosen, study.name, key),
    )
    return by_number.get(shown) if shown is not None else None


def _led(row: TrialRow, lead: Objective) -> str:
    value = row.values[0] if row.values else None
    return "" if value is None else f" · {title_of(lead.name)} {written(lead, value)}"


def _chosen(study: str, key: str) -> None:
    take(study, st.session_state.get(key))


def _ways(study: StudyState, row: TrialRow, text: str) -> None:
    """Offer to open the design on the canvas, to train it longer, to see its run, and to take its file."""
    origin = f"search {study.name}, trial {row.number}"
    with st.container(horizontal=True):
        if text:
            if st.button(
                "Open on the canvas",
                type="primary",
                icon=":material/schema:",
                key="search.point.open",
            ):
                state.open_design(text, origin)
                _look_as_searched(study)
                shell.go(shell.DESIGN)
            if st.button(
                "Train longer",
                icon=":material/model_training:",
                key="search.point.train",
                help="Sets up a training of this design; nothing starts before you have looked at it.",
            ):
                _hand_over(study, text, origin, row.training)
                shell.go(shell.TRAIN)
            if st.button(
                "Measure",
                icon=":material/speed:",
                key="search.point.measure",
                help="Sets up a profile: time, memory and traffic of a step, measured beside what was predicted.",
            ):
                _hand_over(study, text, origin, row.training)
                shell.go(shell.PROFILE)
        compare_button(study, row)
        _again(study, row)
        here = row.run and row.home in ("", home_id())
        if here and st.button("Its run", icon=":material/monitoring:", key="search.point.run"):
            shell.go(shell.TRAIN, run=row.run)
        if text:
            st.download_button(
                "YAML",
                text,
                f"{study.name}-trial-{row.number:04}.yaml",
                "application/yaml",
                key="search.point.yaml",
                icon=":material/download:",
                type="tertiary",
                on_click="ignore",
            )


def _again(study: StudyState, row: TrialRow) -> None:
    """Offer to repeat what a training measured, with other seeds; what a formula or a table says does not vary."""
    looked_up = study.about.file.get("trained_table") is not None
    if (
        looked_up
        or row.state != "complete"
        or not any(not one.predicted and not one.formula for one in study.objectives)
    ):
        return
    st.button(
        f"Repeat × {_REPEATS}",
        icon=":material/repeat:",
        key="search.point.again",
        disabled=study.living > 0 or coming(study.name),
        on_click=partial(_repeat, study.name, row.number),
        help="Trains this design again with other seeds, so that it shows what its values vary by chance, here and "
        "for all points. Not while the search goes on.",
    )


def _repeat(study: str, number: int) -> None:
    try:
        begun(study)
        repeat_trial(study, number, _REPEATS, workers=min(_REPEATS, core_count()))
    except HybridLabError as error:
        state.put(NOTICE, list(error.problems))


def _look_as_searched(study: StudyState) -> None:
    """Look at costs for the search's task and batch, so that they are those of the front."""
    file = study.about.file
    task = predictions.task(str(file.get("task"))) if file.get("task") else None
    if task is None:
        return
    given = {**task["default_training"], **dict(file.get("training") or {})}
    params = sorted(dict(given.get("task_params") or {}).items())
    plain = all(isinstance(value, (str, int, float)) for _, value in params)
    state.set_shapes(
        predictions.Shapes(
            task["name"],
            tuple(params) if plain else (),
            int(given.get("batch") or TrainSpec.model_fields["batch"].default),
        )
    )


def _hand_over(
    study: StudyState, text: str, origin: str, decided: Mapping[str, Any] | None = None
) -> None:
    """Make a design the one that Train sets up, on the search's task and with its settings, for longer."""
    state.open_design(text, origin)
    state.put("train_source", setup.DESIGN)
    file = study.about.file
    task = predictions.task(str(file.get("task"))) if file.get("task") else None
    if task is None:
        return
    state.put("train_task", task["name"])
    given = dict(file.get("training") or {})
    params = given.pop("task_params", None)
    given.pop("task", None)
    usual = int(dict(task["default_training"]).get("steps") or 1_000)
    given["steps"] = max(usual, _LONGER * int(given.get("steps") or 0))
    given |= dict(decided or {})
    state.put(f"settings.{task['name']}", given)
    state.put(f"task_params.{task['name']}", dict(params or {}))


def _differences(study: StudyState, row: TrialRow, text: str) -> None:
    """Show what differs from the seed, and from the neighbours on the front."""
    seed = state.parsed(study.about.architecture)[0] if study.about.architecture else None
    mine = _architecture(study, row, text)
    if seed is not None and mine is not None:
        st.markdown("**Against the design that was searched around**")
        found = compare(seed, mine)
        others = [
            f"{name} {row.design[name]}"
            for name in DECISIONS
            if row.design.get(name, USUAL[name]) != USUAL[name]
        ]
        if others:
            st.caption(shell.escaped(f"Trained with {', '.join(others)}."))
        if found.empty:
            st.caption(
                "It is that design." if not others else "Its components are those of that design."
            )
        else:
            st.code(found.text(), language=None, wrap_lines=True)
    beside = _beside(study, row)
    if not beside:
        return
    st.markdown("**Against its neighbours on the front**")
    st.dataframe(
        side_by_side(study, [row, *beside], row.number),
        hide_index=True,
        key=f"search.neighbours.{study.name}",
        height="content",
        alt="What differs between this point of the front and those beside it",
    )


def _beside(study: StudyState, row: TrialRow) -> list[TrialRow]:
    """Return the trials before and after a point of the front; none of a trial that is not on it."""
    numbers = [study.rows[at].number for at in study.front]
    if row.number not in numbers:
        return []
    at = numbers.index(row.number)
    return [study.rows[study.front[k]] for k in (at - 1, at + 1) if 0 <= k < len(study.front)]
