"""Designs to go on with, as they were when their page was closed."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture import versions
from hybridlab.ui import clock, shell, state
from hybridlab.ui.design import keeping


def offers(most: int = 3) -> None:
    """Offer the designs that were edited last, but the one that is open; nothing is shown where there is none."""
    current = state.design()
    here = current.history if current else ""
    with shell.told():
        found = [history for history in versions.histories() if history.id != here][:most]
        for history in found:
            if st.button(
                f"Go on with **{shell.escaped(history.title[:60])}**, "
                f"edited {clock.moment(history.edited)}",
                key=f"go_on.{history.id}",
                icon=":material/history:",
                help=f"From {shell.escaped(history.origin)}; opens as it was after the last edit",
            ):
                keeping.go_on(history)
                shell.go(shell.DESIGN)
