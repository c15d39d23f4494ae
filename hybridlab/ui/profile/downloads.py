"""Everything of a profile to take away: figures, tables, op streams, and a trace that Perfetto opens."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from hybridlab.profiling.perfetto import perfetto
from hybridlab.trace.stream import OpStream
from hybridlab.ui.profile.figure import file_name, pictures
from hybridlab.ui.profile.opened import REPORT, Opened

_FIGURES = "profile.json"
_ICON = ":material/download:"


def downloads(opened: Opened) -> None:
    """Offer the figures as JSON, the tables and streams as zipped Parquet, the step as a trace, and recorded traces."""
    folder = opened.folder
    pictures()
    with st.container(border=True):
        _offer(
            opened,
            "Figures (JSON)",
            lambda: (folder / _FIGURES).read_bytes(),
            "json",
            "application/json",
            "What the overview shows: time, memory and components, as `hybridlab profile --json` prints it.",
        )
        _offer(
            opened,
            "Tables (Parquet, zip)",
            lambda: _zipped(folder / REPORT, "*.parquet"),
            "tables.zip",
            "application/zip",
            "Every table behind a picture of these views; each picture has its own as CSV too.",
        )
        if (folder / "measured").is_dir():
            _offer(
                opened,
                "Op streams (Parquet, zip)",
                lambda: _zipped(folder, "*/ops.parquet", "*/storages.parquet"),
                "streams.zip",
                "application/zip",
                "Every operator and storage of a step, measured and predicted; `OpStream.load` reads a folder of it.",
            )
            _offer(
                opened,
                "Step for Perfetto (JSON)",
                lambda: perfetto(OpStream.load(folder / "measured"), opened.name),
                "perfetto.json",
                "application/json",
                "The measured step with a track for each phase; ui.perfetto.dev and chrome://tracing open it.",
            )
        for trace in sorted(folder.glob("*.pt.trace.json*")):
            _offer(
                opened,
                "The profiler's trace (Kineto JSON)",
                trace.read_bytes,
                trace.name,
                "application/gzip" if trace.suffix == ".gz" else "application/json",
                "As torch.profiler wrote it, all profiled steps; TensorBoard with torch-tb-profiler opens it too.",
                trace.name,
            )


def _offer(
    opened: Opened,
    label: str,
    data: Callable[[], bytes],
    ending: str,
    mime: str,
    said: str,
    name: str = "",
) -> None:
    left, right = st.columns([1, 2.4], vertical_alignment="center")
    left.download_button(
        label,
        data,
        name or file_name(opened, "profile", ending),
        mime,
        key=f"{opened.key}.downloads.{ending}",
        icon=_ICON,
        on_click="ignore",
        width="stretch",
    )
    right.caption(said)


def _zipped(folder: Path, *patterns: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for pattern in patterns:
            for file in sorted(folder.glob(pattern)):
                archive.write(file, file.relative_to(folder))
    return target.getvalue()
