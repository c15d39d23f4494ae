"""What can be taken away of a trace: the trace itself, its figures, and every table."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.traces import REPORT, get
from hybridlab.ui import shell
from hybridlab.ui.profile.figure import file_name, pictures
from hybridlab.ui.profile.opened import Opened
from hybridlab.units import format_bytes

_MOST_BYTES = 512 * 1024**2


def draw(opened: Opened) -> None:
    """Offer the trace, its figures and its tables."""
    pictures()
    with st.container(horizontal=True):
        st.download_button(
            "Figures (JSON)",
            lambda: json.dumps(dict(opened.figures), indent=1),
            file_name(opened, "summary", "json"),
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key=f"{opened.key}.figures",
            help="What `hybridlab trace show --json` prints.",
        )
        st.download_button(
            "All tables (zip of Parquet)",
            lambda: _tables(opened.folder / REPORT),
            file_name(opened, "tables", "zip"),
            "application/zip",
            icon=":material/folder_zip:",
            on_click="ignore",
            key=f"{opened.key}.tables",
        )
        _trace(opened)
    st.caption(
        "Every figure and table has its own downloads where it stands. Perfetto (ui.perfetto.dev), chrome://tracing "
        "and TensorBoard with torch-tb-profiler open the trace."
    )


def _trace(opened: Opened) -> None:
    try:
        source = get(opened.folder.name)
        file = Path(source.file)
        size = file.stat().st_size
    except (HybridLabError, OSError):
        st.caption("The trace's file is no longer where it was read.")
        return
    if size > _MOST_BYTES:
        st.caption(
            f"The trace itself is {format_bytes(size)}, too large to be sent through the page; it lies at "
            f"{shell.escaped(str(file))}."
        )
        return
    packed = file.name.endswith(".gz")
    st.download_button(
        f"Trace ({format_bytes(size)})",
        file.read_bytes,
        source.name,
        "application/gzip" if packed else "application/json",
        icon=":material/download:",
        on_click="ignore",
        key=f"{opened.key}.trace",
        help="The file as it came, for Perfetto and chrome://tracing.",
    )


def _tables(folder: Path) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as bundle:
        for file in sorted(folder.glob("*.parquet")):
            bundle.write(file, file.name)
    return target.getvalue()
