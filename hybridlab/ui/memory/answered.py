"""What the prediction processes answer: asked for by a button, waited for without holding the page, or told why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from hybridlab.ui import shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.memory.work import Work
from hybridlab.ui.worker_pool import Answer

_PATIENCE_S = 0.1
_EVERY_S = 0.5
Ask = Callable[[float], Answer | None]
"""Asks, and waits so many seconds; None where the answer is not there by then."""


def on_demand(
    work: Work, name: str, button: str, icon: str, now: object, before: str, doing: str, ask: Ask
) -> Any | None:
    """Return what is answered to what the widgets are at ``now``, asked by a button; None where it is not there.

    ``name`` is the section's in keys, ``before`` the sentence until the button is pressed for what they are at.
    """
    key = f"{work.key}.{name}"
    if st.button(button, icon=icon, key=f"{key}.start"):
        state.put(f"{key}.asked", now)
    if state.keep(f"{key}.asked", None) != now:
        st.caption(before)
        return None
    return answered(ask, doing, _PATIENCE_S, _EVERY_S)


def answered(ask: Ask, doing: str, patience_s: float, every_s: float) -> Any | None:
    """Return what is answered; None where it is still waited for, which is shown, or where problems are told."""
    answer = ask(patience_s)
    if answer is None:
        wait_for(ask, doing, every_s)
    elif answer.problems:
        shell.problems(answer.problems)
    else:
        return answer.value
    return None


def wait_for(ask: Ask, doing: str, every_s: float) -> None:
    """Draw the page again as soon as an answer is there; say what is being done, where there are words for it."""
    st.fragment(_wait, run_every=every_s)(ask, doing)


def _wait(ask: Ask, doing: str) -> None:
    if ask(0.0) is not None:
        page_again()
    if doing:
        st.progress(0.0, text=f"{doing} …")
