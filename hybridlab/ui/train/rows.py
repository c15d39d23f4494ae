"""Tables that people write into, cell after cell, while the settings take up each cell at once.

Streamlit takes a table whose data have changed for another one: what is being typed into it is lost. So a table
goes on from the rows that it began with, and begins anew only where its rows were changed elsewhere than in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.ui import state
from hybridlab.ui.held import held_key, renew

Rows = Sequence[Mapping[str, Any]]


def columns_shown(
    views: Mapping[str, Sequence[str]], used: Collection[str], key: str
) -> Sequence[str]:
    """Let the user choose which columns of a wide table are shown; the first is in every view, what is used is marked.

    All of a table beside each other would not fit beside what else a page has.
    """
    chosen = st.segmented_control(
        "Columns",
        list(views),
        default=next(iter(views)),
        required=True,
        format_func=lambda view: f"{view} •" if set(views[view][1:]) & set(used) else view,
        label_visibility="collapsed",
        key=key,
        help="The table has more columns than fit beside each other; • has something in it.",
    )
    return views[str(chosen)]


def begun(name: str, now: Rows) -> tuple[str, Rows]:
    """Return the key of a table whose rows are ``now`` in the settings, and the rows that it began with."""
    key = held_key(name)
    kept = _kept(name)
    if kept is not None and key in st.session_state and kept[1] == list(now):
        return key, kept[0]
    if key in st.session_state:
        key = renew(name)
    state.put(f"rows.{name}", (list(now), list(now)))
    return key, list(now)


def took(name: str, rows: Rows) -> None:
    """Note that these rows, which are in the settings now, came from the table itself."""
    if (kept := _kept(name)) is not None:
        state.put(f"rows.{name}", (kept[0], list(rows)))


def written(row: Mapping[Any, Any], whole: Sequence[str]) -> dict[str, Any]:
    """Return what a row of a table holds by its column, without empty cells; those of ``whole`` as whole numbers."""
    return {
        str(name): int(value) if name in whole else value
        for name, value in row.items()
        if not (value is None or (not isinstance(value, str) and pd.isna(value)) or value == "")
    }


def _kept(name: str) -> tuple[list[Any], list[Any]] | None:
    """Return the rows that a table began with, and those that it gave last; None before it was shown."""
    found: tuple[list[Any], list[Any]] | None = state.keep(f"rows.{name}", None)
    return found
