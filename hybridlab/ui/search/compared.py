"""Points of a study beside each other: their values, the choices in which they differ, and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.runs.home import home_id
from hybridlab.search.record import TrialRow
from hybridlab.search.state import StudyState
from hybridlab.ui import shell, state
from hybridlab.ui.search.chosen import take
from hybridlab.views.curves import MOST
from hybridlab.views.search_axes import title_of, written

_COMPARED = "search.compared"


def compare_button(study: StudyState, row: TrialRow) -> None:
    """Offer to lay a trial beside others, or to take it away again."""
    there = row.number in numbers(study.name)
    st.button(
        "Out of compare" if there else "Add to compare",
        icon=":material/playlist_remove:" if there else ":material/playlist_add:",
        key="search.point.compare",
        on_click=partial(_turn, study.name, row.number),
        disabled=not there and len(numbers(study.name)) >= MOST,
        help=f"Up to {MOST} trials are laid beside each other below the picture.",
    )


def compared(study: StudyState) -> None:
    """Show the trials that were added, side by side; nothing where there are none."""
    by_number = {row.number: row for row in study.rows}
    rows = [by_number[number] for number in numbers(study.name) if number in by_number]
    if not rows:
        return
    with st.container(border=True):
        st.markdown("**Compared**")
        st.dataframe(
            side_by_side(study, rows),
            hide_index=True,
            key=f"search.compared.{study.name}",
            height="content",
            alt="The values of the compared trials, and the choices in which they differ",
        )
        runs = [row.run for row in rows if row.run and row.home in ("", home_id())]
        with st.container(horizontal=True):
            if len(runs) > 1 and st.button(
                "Their curves", icon=":material/show_chart:", key="search.compared.runs"
            ):
                shell.go(shell.RUNS, compare=",".join(runs))
            for row in rows:
                st.button(
                    f"Trial {row.number}",
                    key=f"search.compared.{row.number}",
                    type="tertiary",
                    on_click=partial(take, study.name, row.number),
                    help="Choose it.",
                )
            st.button(
                "Clear",
                icon=":material/close:",
                type="tertiary",
                key="search.compared.clear",
                on_click=partial(_put, study.name, []),
            )


def side_by_side(
    study: StudyState, rows: Sequence[TrialRow], this: int | None = None
) -> pd.DataFrame:
    """Return the objectives, and the choices in which the rows differ: a column for each row; ``this`` is marked."""
    table: dict[str, list[Any]] = {"": []}
    columns: list[list[str]] = [[] for _ in rows]
    for at, objective in enumerate(study.objectives):
        table[""].append(title_of(objective.name))
        for column, one in zip(columns, rows, strict=True):
            number = one.values[at] if at < len(one.values) else None
            column.append("" if number is None else written(objective, number))
    for choice in study.about.choices:
        name = str(choice["name"])
        taken = [one.design.get(name) for one in rows]
        if len(set(map(repr, taken))) > 1:
            table[""].append(name)
            for column, value in zip(columns, taken, strict=True):
                column.append(str(value))
    for one, column in zip(rows, columns, strict=True):
        table[f"trial {one.number}" + (" (this)" if one.number == this else "")] = column
    return pd.DataFrame(table)


def numbers(study: str) -> list[int]:
    """Return the trials of a study that are compared."""
    return list(_all().get(study, []))


def _turn(study: str, number: int) -> None:
    there = numbers(study)
    _put(study, [one for one in there if one != number] if number in there else [*there, number])


def _put(study: str, found: list[int]) -> None:
    state.put(_COMPARED, {**_all(), study: found})


def _all() -> dict[str, list[int]]:
    empty: dict[str, list[int]] = {}
    return state.keep(_COMPARED, empty)
