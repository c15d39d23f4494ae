"""Another trace, or several, beside the one that is open: which are there, and what a process worked out of them."""

from __future__ import annotations

import streamlit as st

from hybridlab.runs import trace_reading
from hybridlab.runs.trace_reading import RESULT, ReadingState
from hybridlab.runs.traces import Source, all_traces
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.profile.trace_process import finished


def others(opened: Opened) -> dict[str, Source]:
    """Return the traces of this home that were read, by id, without the one that is open; the newest first."""
    return {
        source.id: source
        for source in all_traces()
        if source.id != opened.folder.name
        and trace_reading.look(source.folder).state is ReadingState.READ
    }


def named(found: dict[str, Source], trace_id: str) -> str:
    """Return a trace's name for a list; the id's end tells apart what is called the same."""
    source = found[trace_id]
    twice = sum(other.name == source.name for other in found.values()) > 1
    return f"{source.name} ({trace_id[-4:]})" if twice else source.name


def worked_out(opened: Opened, verb: str, trace_ids: list[str], what: str) -> Opened | None:
    """Return what a process worked out of traces, this one first; None while it works or if it failed, as is shown."""
    folder = trace_reading.beside(verb, [opened.folder.name, *trace_ids])
    key = f"{opened.key}.{folder.name}"
    if not finished(folder, what, key):
        return None
    return Opened(key, what, "trace", folder, figures(folder / RESULT))


def nothing_else() -> None:
    """Say that there is no other trace."""
    st.info(
        "There is no other trace here that was read. Open one on the Profile page, and it can be chosen.",
        icon=":material/playlist_add:",
    )
