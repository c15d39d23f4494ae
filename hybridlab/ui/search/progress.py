"""Whether the search still pays, and what its workers did when."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from hybridlab.search.state import StudyState
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.search.front import true_front
from hybridlab.ui.search.opened import shown
from hybridlab.views.search_progress import (
    progress_info,
    progress_plot,
    workers_info,
    workers_plot,
)


def draw(study: StudyState) -> None:
    """Show hypervolume against trials with its hint, and the timeline of workers."""
    if not study.rows:
        st.info("Nothing has begun yet.", icon=":material/hourglass_top:")
        return
    known: Any = true_front(study)
    info = (
        progress_info(study, known["reference"], float(known["hypervolume"]))
        if known
        else progress_info(study)
    )
    if info.hint:
        lately = info.lately
        show = st.warning if lately is not None and lately.hardly else st.info
        show(
            info.hint,
            icon=":material/trending_flat:" if show is st.warning else ":material/trending_up:",
        )
    opened = shown(study)
    figure(
        opened,
        "hypervolume",
        "What the front covers, against the number of trials",
        progress_plot(info),
        info.table(),
    )
    workers = workers_info(study.rows, time.time())
    figure(
        opened,
        "workers",
        "Which worker ran which trial when",
        workers_plot(workers),
        workers.table(),
    )
    if workers.left_out:
        st.caption(f"The first {workers.left_out:,} trials are not drawn.")
