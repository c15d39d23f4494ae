"""How the views of a profile show a figure or a table: with a row of downloads under it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import streamlit as st

from hybridlab.ui import state
from hybridlab.ui.profile.opened import Opened
from hybridlab.views import standalone

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PICTURE = "picture"
_PICTURES: list[standalone.Picture] = ["svg", "png"]
_A: dict[standalone.Picture, str] = {"svg": "an SVG", "png": "a PNG"}
_NOT_IN_FILES = re.compile(r"[^\w.-]+")


def figure(
    opened: Opened,
    name: str,
    title: str,
    plot: go.Figure,
    table: pd.DataFrame | None = None,
    *,
    on_select: Callable[[], None] | None = None,
) -> None:
    """Show a figure, and under it the figure as HTML and its numbers as CSV and Parquet; its own bar saves SVG or PNG.

    Args:
        opened: whose figure it is.
        name: unique among the figures of what is open; files and the widget (``widget_key``) are called by it.
        title: what it shows, for those who cannot see it.
        plot: the figure, as a view drew it.
        table: the numbers behind it.
        on_select: called when points are clicked or drawn round; they are under ``widget_key`` in the session's state.
    """
    picture = state.keep(_PICTURE, _PICTURES[0])
    st.plotly_chart(
        plot,
        key=widget_key(opened, name),
        config=standalone.tools(file_name(opened, name, ""), picture),
        on_select=on_select or "ignore",
        selection_mode="points",
        alt=title,
    )
    with st.container(horizontal=True, gap="small"):
        _button(
            opened,
            name,
            "HTML",
            lambda: standalone.page(plot, file_name(opened, name, "")),
            "html",
            "text/html",
            f"The figure in one file that opens without a network. The camera in the figure saves {_A[picture]}.",
        )
        if table is not None:
            _tables(opened, name, table)


def pictures() -> None:
    """Let the user choose what the camera in every figure saves."""
    chosen = st.segmented_control(
        "The camera in a figure saves",
        _PICTURES,
        default=state.keep(_PICTURE, _PICTURES[0]),
        required=True,
        format_func=lambda name: name.upper(),
        key="picture_format",
        help="SVG for print and for editing, PNG (twice the dots of the screen) for slides and messages.",
    )
    state.put(_PICTURE, chosen)


def show_table(
    opened: Opened,
    name: str,
    frame: pd.DataFrame,
    *,
    columns: Mapping[str, Any] | None = None,
    height: int | Literal["auto", "content", "stretch"] = "auto",
    title: str = "",
) -> None:
    """Show a table whose headings sort, and under it the same as CSV and Parquet.

    Args:
        opened: whose table it is.
        name: unique among the tables of what is open.
        frame: the rows; not changed.
        columns: Streamlit's settings for columns, by name.
        height: of the table, in pixels or in Streamlit's words.
        title: what it shows, for those who cannot see it.
    """
    st.dataframe(
        frame,
        key=widget_key(opened, name),
        hide_index=True,
        height=height,
        column_config=dict(columns or {}),
        alt=title or None,
    )
    with st.container(horizontal=True, gap="small"):
        _tables(opened, name, frame)


def widget_key(opened: Opened, name: str) -> str:
    """Return the key of a figure or table in the session's state."""
    return f"{opened.key}.{name}"


def file_name(opened: Opened, name: str, ending: str) -> str:
    """Return a name for a file made of what is open, harmless on any system."""
    stem = _NOT_IN_FILES.sub("-", f"{opened.name} {name}").strip("-.")[:80]
    return f"{stem}.{ending}" if ending else stem


def _tables(opened: Opened, name: str, frame: pd.DataFrame) -> None:
    _button(opened, name, "CSV", lambda: frame.to_csv(index=False), "csv", "text/csv")
    _button(
        opened,
        name,
        "Parquet",
        lambda: _parquet(frame),
        "parquet",
        "application/vnd.apache.parquet",
    )


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _button(
    opened: Opened,
    name: str,
    label: str,
    data: Callable[[], str] | Callable[[], bytes],
    ending: str,
    mime: str,
    help: str | None = None,
) -> None:
    st.download_button(
        label,
        data,
        file_name(opened, name, ending),
        mime,
        key=f"{widget_key(opened, name)}.{ending}",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help=help,
    )
