"""The front in two or three dimensions, and the point that is chosen on it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import streamlit as st

from hybridlab.search.state import StudyState
from hybridlab.ui import predictions, shell
from hybridlab.ui.again import page_again
from hybridlab.ui.labels import distinct
from hybridlab.ui.profile.figure import figure, widget_key
from hybridlab.ui.search.choose import band, budget, rules
from hybridlab.ui.search.chosen import chosen, take
from hybridlab.ui.search.compared import compared
from hybridlab.ui.search.opened import shown
from hybridlab.ui.search.point import point
from hybridlab.views import style
from hybridlab.views.search_axes import title_of
from hybridlab.views.search_front import FrontInfo, front_info, front_plot, front_plot_3d

_WAIT_S = 0.02


def draw(study: StudyState) -> None:
    """Show the front, its settings, ways to choose a point, and the point."""
    if not study.done:
        st.info(
            "The front appears here with the first trial that ends.",
            icon=":material/hourglass_top:",
        )
        return
    wide, narrow = st.columns([1.75, 1], gap="medium")
    with wide:
        _picture(study)
        budget(study)
        compared(study)
    with narrow:
        rules(study)
        point(study)


def _picture(study: StudyState) -> None:
    names = [one.name for one in study.objectives]
    labels = distinct({name: title_of(name) for name in names})
    three = False
    picked = dict(zip("xyz", _usual(names), strict=False))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(names) > 2:
            three = (
                st.segmented_control(
                    "Axes",
                    ["2-D", "3-D"],
                    default="2-D",
                    required=True,
                    key=f"search.{study.name}.dimensions",
                )
                == "3-D"
            )
        for letter in "xyz"[: 3 if three else 2]:
            picked[letter] = st.selectbox(
                f"{letter} axis",
                names,
                index=names.index(picked[letter]),
                format_func=lambda name: labels[name],
                key=f"search.{study.name}.{letter}",
                width=170,
            )
        axes = [picked[letter] for letter in "xyz"[: 3 if three else 2]]
        logs = st.pills(
            "Log scale",
            list("xyz"[: len(axes)]),
            selection_mode="multi",
            key=f"search.{study.name}.log",
        )
        beaten = st.toggle("Dominated", value=True, key=f"search.{study.name}.beaten")
        beyond = (
            st.toggle("Infeasible", value=True, key=f"search.{study.name}.beyond")
            if not study.feasible.all()
            else True
        )
    if len(set(axes)) < len(axes):
        st.warning("Choose a different objective for each axis.", icon=":material/warning:")
        return
    info = _info(study, tuple(names.index(name) for name in axes), _true(study))
    log = [letter in (logs or ()) for letter in "xyz"[: len(axes)]]
    number = chosen(study.name)
    if three:
        ink = style.INK.get(shell.background() or "", style.NEUTRAL)
        plot = front_plot_3d(info, log=log, beaten=beaten, beyond=beyond, chosen=number, ink=ink)
    else:
        held = band(study)
        plot = front_plot(
            info,
            log=log,
            beaten=beaten,
            beyond=beyond,
            chosen=number,
            band=(axes.index(names[held[0]]), *held[1:])
            if held is not None and names[held[0]] in axes
            else None,
        )
    opened = shown(study)
    name = f"front {'-'.join(axes)}"
    figure(
        opened,
        name,
        f"The trials of the search over {', '.join(axes)}; those that no other beats are the front",
        plot,
        info.table(),
        on_select=lambda: _clicked(study.name, widget_key(opened, name)),
    )


@functools.lru_cache(maxsize=8)  # a study that has not changed is the same object
def _info(
    study: StudyState, columns: tuple[int, ...], true: tuple[tuple[float, ...], ...]
) -> FrontInfo:
    return front_info(study, columns, true)


def _usual(names: Sequence[str]) -> list[str]:
    """Return the axes to begin with: a cost to the right, what is measured upwards."""
    return [names[1], names[0], *names[2:]]


def _true(study: StudyState) -> tuple[tuple[float, ...], ...]:
    """Return the true front of a closed form or of the trained table, once it has been worked out."""
    known = true_front(study)
    return tuple(map(tuple, known["front"])) if known else ()


def true_front(study: StudyState) -> dict[str, Any] | None:
    """Return what is known of the true front; None for a search that has none, or while it is being worked out."""
    if study.about.file.get("architecture") is not None:
        return None
    keys = ("name", "closed_form", "trained_table", "objectives", "limits")
    file: dict[str, Any] = {
        key: study.about.file[key] for key in keys if study.about.file.get(key) is not None
    }
    answer = predictions.true_front(file, _WAIT_S)
    if answer is None:
        st.fragment(_wait, run_every=0.5)(file)
        return None
    return None if answer.problems else dict(answer.value)


def _wait(file: dict[str, Any]) -> None:
    """Draw the page again as soon as the true front is known."""
    if predictions.true_front(file) is not None:
        page_again()
    st.caption(":material/hourglass_top: Working out the true front, all designs of it …")


def _clicked(study: str, key: str) -> None:
    """Choose the point that was clicked."""
    event = st.session_state.get(key)
    points = event["selection"]["points"] if event else []
    for one in points:
        number = one.get("customdata")
        number = number[0] if isinstance(number, (list, tuple)) and number else number
        if isinstance(number, (int, float)):
            take(study, int(number))
            return
