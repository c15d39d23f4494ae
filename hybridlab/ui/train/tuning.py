"""What a training's settings let components do in another way: which, does it fit the design, how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.tuning.record import Tuning
from hybridlab.ui import shell
from hybridlab.ui.train.measured import made_for, remove

_MOST = 8


def tuning_panel(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show what is done in another way by the settings, where something is."""
    if not settings.get("tuning"):
        return
    with st.container(border=True):
        st.markdown("**Tuned to a machine**")
        try:
            tuning = Tuning.read(settings["tuning"])
        except HybridLabError as error:
            shell.problems(error.problems)
        else:
            _told(tuning)
            made_for(tuning.fingerprint, text, task)
        st.button(
            "Train as designed",
            icon=":material/close:",
            key="train.tuning.remove",
            on_click=remove,
            args=(task, "tuning"),
        )


def _told(tuning: Tuning) -> None:
    some = [f"{path} in chunks of {size}" for path, size in tuning.chunk.items()]
    some += [f"{path}'s convolution as {form}" for path, form in tuning.convolution.items()]
    more = f" and {len(some) - _MOST} more" if len(some) > _MOST else ""
    listed = ", ".join(some[:_MOST]) + more
    st.markdown(
        shell.escaped(f"{listed[:1].upper()}{listed[1:]}.")
        + " What is learnt is the same but for rounding."
    )
