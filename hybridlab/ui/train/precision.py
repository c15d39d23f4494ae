"""Number formats of single components in a training's settings: which, do they fit the design, how to take them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.precision.record import FORMATS, Precisions
from hybridlab.ui import shell
from hybridlab.ui.train.measured import made_for, remove

_MOST = 8


def precision_panel(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show which components have a format of their own by the settings, where some have."""
    if not settings.get("precisions"):
        return
    with st.container(border=True):
        st.markdown("**Precision by component**")
        try:
            precisions = Precisions.read(settings["precisions"])
        except HybridLabError as error:
            shell.problems(error.problems)
        else:
            _told(precisions, settings)
            made_for(precisions.fingerprint, text, task)
        st.button(
            "Train in one precision",
            icon=":material/close:",
            key="train.precisions.remove",
            on_click=remove,
            args=(task, "precisions"),
        )


def _told(precisions: Precisions, settings: Mapping[str, Any]) -> None:
    some = []
    for name in FORMATS:
        paths = [path for path, its in precisions.formats.items() if its == name]
        more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
        some += [f"{name}: {', '.join(paths[:_MOST])}{more}"] if paths else []
    said = f"In {shell.escaped('; in '.join(some))}; all else in {precisions.within}."
    if precisions.measured is not None:
        said += f" Gradients differed by {precisions.measured.error:.1e} from float32, where it was measured."
    st.markdown(said)
    asked = settings.get("precision") or "auto"
    if asked not in ("auto", precisions.within):
        st.error(
            f"They go with a training in {precisions.within}, and this one is in {asked}: set precision to "
            f"{precisions.within}, or train without them.",
            icon=":material/error:",
        )
