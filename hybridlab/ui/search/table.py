"""All trials as a table, and the front as a folder of architectures."""

from __future__ import annotations

import functools
import io
import zipfile

import pandas as pd
import streamlit as st

from hybridlab.search.export import point_files
from hybridlab.search.state import StudyState
from hybridlab.ui.profile.figure import file_name, show_table
from hybridlab.ui.search.opened import shown
from hybridlab.ui.search.point import text_of
from hybridlab.views.search_axes import title_of


def draw(study: StudyState) -> None:
    """Show every trial, and offer the front to take away."""
    if not study.rows:
        st.info("Nothing has begun yet.", icon=":material/hourglass_top:")
        return
    front_only = st.toggle("Front only", key=f"search.{study.name}.table_front")
    show_table(
        shown(study),
        "trials",
        table_of(study, front_only=bool(front_only)),
        height=480,
        title="The trials of the search with their values and designs",
    )
    st.download_button(
        "The front as YAML files (zip)",
        lambda: zipped(study),
        file_name(shown(study), "front", "zip"),
        "application/zip",
        key="search.front.zip",
        icon=":material/folder_zip:",
        on_click="ignore",
        disabled=not study.front,
        help="A file for each point, which loads anywhere, and a table of their values; where designs decided how they "
        "are trained, a folder of the architecture and its training.",
    )


@functools.lru_cache(maxsize=8)  # a study that has not changed is the same object
def table_of(study: StudyState, *, front_only: bool = False) -> pd.DataFrame:
    """Return a row for each trial, with units in the headings; not to be changed, all share it."""
    on_front = set(study.front)
    places = [at for at in range(len(study.rows)) if not front_only or at in on_front]
    rows = [study.rows[at] for at in places]
    table = {
        "trial": [row.number for row in rows],
        "state": [row.state for row in rows],
        "front": [at in on_front for at in places],
    }
    frame = pd.DataFrame(table)
    for column, objective in enumerate(study.objectives):
        unit = objective.unit or objective.source
        frame[f"{title_of(objective.name)} ({unit})"] = [
            row.values[column] if row.values else None for row in rows
        ]
    frame["time (s)"] = [
        round(row.ended - row.started, 2) if row.started and row.ended else None for row in rows
    ]
    frame["reason"] = [row.reason for row in rows]
    for choice in study.about.choices:
        name = str(choice["name"])
        values = [row.design.get(name) for row in rows]
        plain = all(isinstance(one, int) and not isinstance(one, bool) for one in values)
        frame[name] = values if plain else [None if one is None else str(one) for one in values]
    return frame


def zipped(study: StudyState) -> bytes:
    """Return the front as a zip of what ``hybridlab front`` writes for each point, and ``front.csv``."""
    target = io.BytesIO()
    file = study.about.file
    settings = {"task": file.get("task"), **dict(file.get("training") or {})}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for at in study.front:
            row = study.rows[at]
            told = ", ".join(
                f"{one.name} {value:.6g}"
                for one, value in zip(study.objectives, row.values, strict=True)
            )
            head = f"{study.name}, trial {row.number}: {told}"
            text = text_of(study, row)
            for name, content in point_files(
                row.number, head, text, settings, row.training
            ).items():
                archive.writestr(name, content)
        table = pd.DataFrame(
            [
                {
                    "trial": study.rows[at].number,
                    **dict(
                        zip(
                            (one.name for one in study.objectives),
                            study.rows[at].values,
                            strict=True,
                        )
                    ),
                    **study.rows[at].design,
                }
                for at in study.front
            ]
        )
        archive.writestr("front.csv", table.to_csv(index=False))
    return target.getvalue()
