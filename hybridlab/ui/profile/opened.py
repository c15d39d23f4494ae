"""What the Profile page has open: a folder with figures and tables that a worker wrote; the page computes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from hybridlab.errors import Problem, RunError

REPORT = "report"
"""The folder beside the figures that holds a table, ``NAME.parquet``, for every picture."""


@dataclass(frozen=True)
class Opened:
    """A profile of a design, or a trace that somebody made.

    ``key`` begins the keys of widgets; ``figures`` are those of ``Profile.as_dict`` or ``TraceSummary.as_dict``;
    ``architecture`` is YAML text, empty for a trace.
    """

    key: str
    name: str
    kind: Literal["profile", "trace"]
    folder: Path
    figures: Mapping[str, Any]
    architecture: str = ""

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the report; an empty one where the worker wrote none. Not to be changed: all share it.

        Raises:
            RunError: the file is damaged.
        """
        file = self.folder / REPORT / f"{name}.parquet"
        try:
            written_ns = file.stat().st_mtime_ns
        except OSError:
            return pd.DataFrame()
        return _table(str(file), written_ns)

    def has(self, name: str) -> bool:
        """Say whether there is such a table."""
        return (self.folder / REPORT / f"{name}.parquet").is_file()


def figures(file: Path) -> Mapping[str, Any]:
    """Return the figures that a worker wrote as JSON.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        written_ns = file.stat().st_mtime_ns
    except OSError:
        raise RunError(Problem(str(file), "is not there", "figures of a profile")) from None
    return _figures(str(file), written_ns)


@st.cache_resource(max_entries=64, show_spinner=False)
def _table(file: str, written_ns: int) -> pd.DataFrame:
    try:
        found: pd.DataFrame = pq.read_table(file).to_pandas()
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:120]
        raise RunError(Problem(file, f"cannot be read: {why}", "a Parquet file")) from None
    return found


@st.cache_resource(max_entries=64, show_spinner=False)
def _figures(file: str, written_ns: int) -> Mapping[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(Problem(file, f"cannot be read: {error}", "JSON")) from None
    if not isinstance(found, dict):
        raise RunError(Problem(file, "is not an object", "figures of a profile"))
    return found
