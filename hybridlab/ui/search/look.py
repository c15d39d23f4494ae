"""One view of a study at a time; which one stands in the address, so that a link leads to it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from hybridlab.errors import HybridLabError, RunError
from hybridlab.search.state import StudyState
from hybridlab.ui import shell
from hybridlab.ui.search import choices, front, progress, table
from hybridlab.ui.search.head import head
from hybridlab.ui.search.opened import coming
from hybridlab.ui.search.opened import look as look_at

_VIEW = "view"
_VIEWS: dict[str, tuple[str, Callable[[StudyState], None]]] = {
    "front": (":material/scatter_plot: Front", front.draw),
    "progress": (":material/trending_up: Progress", progress.draw),
    "choices": (":material/tune: Choices", choices.draw),
    "trials": (":material/table_rows: Trials", table.draw),
}


def look(name: str) -> None:
    """Show a study: where it stands, and the view that is chosen."""
    study: StudyState | None = None
    try:
        study = look_at(name)
    except RunError as error:
        if not coming(name):
            shell.problems(error.problems)
    except HybridLabError as error:
        shell.problems(error.problems)
    with shell.told():
        head(name, study)
    if study is None:
        return
    key = f"search.{name}.view"
    asked = st.query_params.get(_VIEW, "")
    if key not in st.session_state:
        st.session_state[key] = asked if asked in _VIEWS else next(iter(_VIEWS))
    chosen = st.segmented_control(
        "View",
        list(_VIEWS),
        required=True,
        format_func=lambda one: _VIEWS[one][0],
        label_visibility="collapsed",
        key=key,
        on_change=lambda: st.query_params.update({_VIEW: st.session_state[key]}),
    )
    with shell.told():
        _VIEWS[str(chosen)][1](study)
