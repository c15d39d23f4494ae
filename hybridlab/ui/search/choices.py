"""What the choices of a search do: which matter, how components change along the front, and all in one picture."""

from __future__ import annotations

import functools

import streamlit as st

from hybridlab.search.state import StudyState
from hybridlab.ui import shell
from hybridlab.ui.labels import distinct
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.search.opened import shown
from hybridlab.views import style
from hybridlab.views.search_axes import title_of
from hybridlab.views.search_choices import (
    MOST_CHOICES,
    ImportanceInfo,
    importance_info,
    importance_plot,
    lines_info,
    lines_plot,
    spread_info,
    spread_plot,
)


def draw(study: StudyState) -> None:
    """Show importance, components along the front, and parallel coordinates."""
    if not study.done:
        st.info("Choices can be compared once trials have ended.", icon=":material/hourglass_top:")
        return
    opened = shown(study)
    info = _importance(study)
    left, right = st.columns(2, gap="medium")
    with left:
        title = "What each choice explains of the spread of each objective"
        figure(opened, "importance", title, importance_plot(info), info.table())
        st.caption(
            "Alone, among the trials that were made: a choice that the search has settled early shows little here."
        )
    with right:
        _along(study)
    front_only = st.toggle(
        "Front only", value=True, key=f"search.{study.name}.front_only", disabled=not study.front
    )
    names = info.choices[:MOST_CHOICES]
    order = [str(one["name"]) for one in study.about.choices if str(one["name"]) in names]
    lines = lines_info(study, front_only=bool(front_only and study.front), choices=tuple(order))
    ink = style.INK.get(shell.background() or "", style.NEUTRAL)
    figure(
        opened,
        "parallel coordinates",
        "Each trial as a line over the choices that matter most and all objectives",
        lines_plot(lines, ink),
    )


@functools.lru_cache(maxsize=8)  # a study that has not changed is the same object
def _importance(study: StudyState) -> ImportanceInfo:
    return importance_info(study)


def _along(study: StudyState) -> None:
    names = [one.name for one in study.objectives]
    labels = distinct({name: title_of(name) for name in names})
    priced = [at for at, one in enumerate(study.objectives) if one.predicted]
    chosen = st.selectbox(
        "Along",
        names,
        index=priced[0] if priced else 0,
        format_func=lambda name: labels[name],
        key=f"search.{study.name}.along",
    )
    spread = spread_info(study, names.index(str(chosen)))
    if not spread.components:
        st.caption(spread.title + ".")
        return
    figure(
        shown(study),
        "components",
        "How often each component stands in a slot, along the front",
        spread_plot(spread),
        spread.table(),
    )
