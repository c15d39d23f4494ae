"""Opening a trace that somebody made: by upload, by a path of this machine, from a run, or from a list."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs import trace_reading
from hybridlab.runs.trace_reading import ReadingState
from hybridlab.runs.traces import (
    SUMMARY,
    Source,
    add_file,
    add_from_run,
    add_upload,
    all_traces,
    forget,
    get,
)
from hybridlab.ui import shell, state
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.profile.trace_process import finished
from hybridlab.units import format_bytes

ADDRESS = "trace"
"""The parameter of the page's address that names the open trace."""
_MOST_MB = 500
_CHUNK_BYTES = 1 << 20
_NOTICE = "trace_notice"
_SHOWN = 40
_OF_PROXIES = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via")
_STATES = {
    ReadingState.NEW: "not read yet",
    ReadingState.READING: "being read",
    ReadingState.READ: "",
    ReadingState.FAILED: "refused",
    ReadingState.CANCELLED: "cancelled",
    ReadingState.INTERRUPTED: "interrupted",
}


def start() -> None:
    """Offer an upload, a path where that is allowed, and the list of earlier traces."""
    shell.problems(state.keep(_NOTICE, []))
    state.put(_NOTICE, [])
    with st.container(border=True):
        st.markdown("**Open a trace of torch.profiler**")
        st.caption(
            "Kineto or Chrome JSON, plain or gzip, of any PyTorch program: CPU, CUDA or ROCm. A process of its own "
            "reads it; nothing in it is run."
        )
        _upload()
        if paths_allowed():
            _path()
    _earlier()


def head(trace_id: str) -> None:
    """Show which trace is open, and where to go from it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        try:
            name = get(trace_id).name
        except HybridLabError:
            name = "A trace"
        st.subheader(shell.escaped(name), anchor=False, width="stretch")
        if st.button("Open another", icon=":material/folder_open:"):
            shell.go(shell.PROFILE)


def opened(trace_id: str) -> Opened | None:
    """Return a trace that was read; until it was, show how far that is, or why it was refused, and return None."""
    try:
        source = get(trace_id)
        what = f"{source.name}, {format_bytes(source.size_bytes)}"
        if not finished(source.folder, what, f"trace.{source.id}"):
            return None
        return Opened(
            f"trace.{source.id}",
            source.name,
            "trace",
            source.folder,
            figures(source.folder / SUMMARY),
        )
    except HybridLabError as error:
        shell.problems(error.problems)
        return None


def open_run_trace(run_id: str, name: str) -> None:
    """Open the trace of this name in a run's folder, as a callback of a button."""
    _open(lambda: add_from_run(run_id, name))


def paths_allowed() -> bool:
    """Say whether a visitor may name files of the server: only where no other machine can reach it.

    A server behind a proxy listens on a loopback address too; what the proxy adds to a request, and the name by which
    the visitor asked for the page, tell it.
    """
    headers = st.context.headers
    if any(headers.get(name) for name in _OF_PROXIES):
        return False
    host = headers.get("Host")
    asked = "localhost" if host is None else urlsplit(f"//{host}").hostname
    return _is_here(str(st.get_option("server.address") or "")) and _is_here(asked or "")


def _is_here(address: str) -> bool:
    """Say whether an address or a name is this machine's own, which no other one can reach."""
    if address.strip() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip()).is_loopback
    except ValueError:
        return False


def _upload() -> None:
    count = state.keep("trace_uploads", 0)
    file = st.file_uploader(
        f"Upload a trace (.json or .json.gz, at most {_MOST_MB} MB)",
        type=["json", "gz", "raw"],
        max_upload_size=_MOST_MB,
        key=f"trace.upload.{count}",
    )
    if file is None:
        return
    state.put("trace_uploads", count + 1)  # a fresh uploader, which lets go of the file's memory
    try:
        source = add_upload(file.name, _chunks(file), _MOST_MB * 10**6)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    st.query_params[ADDRESS] = source.id
    st.rerun()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _path() -> None:
    with (
        st.form("trace.path", border=False),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        path = st.text_input(
            "Or a file on this machine",
            placeholder="/path/to/trace.json.gz",
            key="trace.path.text",
            help="The file stays where it is. Offered only because this server listens on this machine alone.",
        )
        pressed = st.form_submit_button("Open", icon=":material/folder_open:")
    if pressed and path.strip():
        _open(lambda: add_file(Path(path.strip())))
        st.rerun()


def _open(add: Callable[[], Source]) -> None:
    try:
        source = add()
        st.query_params[ADDRESS] = source.id
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))


def _earlier() -> None:
    found = all_traces()
    if not found:
        return
    st.markdown("**Traces opened before**")
    for source in found[:_SHOWN]:
        _row(source)
    if len(found) > _SHOWN:
        st.caption(f"{len(found) - _SHOWN} older ones are not listed.")


def _row(source: Source) -> None:
    reading = trace_reading.look(source.folder)
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        when = datetime.fromtimestamp(source.added_at).strftime("%Y-%m-%d %H:%M")
        facts = [format_bytes(source.size_bytes), when]
        if source.how == "run":
            facts.append(f"run {source.run}")
        elif source.how == "path":
            facts.append(str(Path(source.file).parent))
        if _STATES[reading.state]:
            facts.append(_STATES[reading.state])
        st.markdown(
            f"**{shell.escaped(source.name)}** · {shell.escaped(' · '.join(facts))}",
            width="stretch",
        )
        st.button(
            "Open",
            key=f"trace.open.{source.id}",
            icon=":material/open_in_full:",
            on_click=_go,
            args=(source.id,),
        )
        st.button(
            "Delete",
            key=f"trace.delete.{source.id}",
            icon=":material/delete:",
            type="tertiary",
            on_click=_delete,
            args=(source.id,),
            help="Removes what was read, and an uploaded file; a file of this machine stays.",
        )


def _go(trace_id: str) -> None:
    st.query_params[ADDRESS] = trace_id


def _delete(trace_id: str) -> None:
    try:
        trace_reading.cancel(get(trace_id).folder)
        forget(trace_id)
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))
