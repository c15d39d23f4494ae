"""The real page server: bookmarks work from the first visit on, torch stays outside, names of hosts are its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from hybridlab.ui.canvas import ahead

pytestmark = pytest.mark.xdist_group("served")  # one server for all

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the one server that these tests share."""
    folder = tmp_path_factory.mktemp("served") / "home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def server(home: Path, supervisor_ender: Callable[[Path], None]):
    """Start a fresh server, to which nobody has come before the first test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {**os.environ, "HYBRIDLAB_HOME": str(home)}
    command = [sys.executable, "-m", "hybridlab.ui.serve", f"--server.port={port}"]
    with (home / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2):
                break
        except OSError:
            time.sleep(0.2)
    yield process, port
    process.terminate()
    process.wait(20)
    supervisor_ender(home)


async def first_visit(port: int, page: str, query: str) -> list[ForwardMsg]:
    """Open a page as the first visitor and return all that the server sends."""
    messages = []
    address = f"ws://localhost:{port}/_stcore/stream"
    async with websockets.connect(address, subprotocols=["streamlit"], max_size=None) as link:
        asked = BackMsg()
        asked.rerun_script.page_name = page
        asked.rerun_script.query_string = query
        await link.send(asked.SerializeToString())
        while True:
            message = ForwardMsg()
            message.ParseFromString(await asyncio.wait_for(link.recv(), 90))
            messages.append(message)
            if message.WhichOneof("type") == "script_finished":
                return messages


@pytest.mark.timeout(300)
def test_a_bookmark_works_for_the_first_visitor_and_torch_stays_out(server) -> None:
    process, port = server
    messages = asyncio.run(first_visit(port, "runs", "run=1qgw8hhn6e5a"))
    kinds = [message.WhichOneof("type") for message in messages]
    assert "page_not_found" not in kinds
    said = " ".join(
        message.delta.new_element.heading.body
        for message in messages
        if message.WhichOneof("type") == "delta"
    )
    assert "Runs" in said
    icon = next(
        m.page_config_changed.favicon for m in messages if m.HasField("page_config_changed")
    )
    assert icon.startswith("/media/"), "the icon must not come from another host"
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():
        assert not re.search(r"libtorch|torch/_C", maps.read_text())


@pytest.mark.timeout(300)
def test_no_message_is_to_be_kept_for_references(server) -> None:
    """What a browser is told to keep is later sent as a reference, which it may have forgotten by then."""
    large = [
        message
        for message in asyncio.run(first_visit(server[1], "design", "preset=jamba_mini"))
        if message.ByteSize() > 10_000
    ]
    assert large, "else nothing is shown here"
    assert not [message.hash for message in large if message.metadata.cacheable]


@pytest.mark.timeout(300)
def test_the_canvas_may_ask_ahead_and_others_are_refused(server) -> None:
    _, port = server

    def post(body: bytes, kind: str = "application/json") -> int:
        request = urllib.request.Request(
            f"http://localhost:{port}{ahead.PATH}", body, {"content-type": kind}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError as error:  # it answers before it was told all, and hangs up
            assert isinstance(error.reason, BrokenPipeError | ConnectionResetError)
            return 413

    assert post(b'{"seed": "unknown", "client": "a", "edits": []}') == 204
    assert post(b"[]") == post(b"{") == post(b"\xff") == 400
    assert post(b"{}", "text/plain") == 415, "what a form of another site can send"
    assert post(b" " * ahead.MOST_BYTES) == 413


def test_a_server_that_is_asked_writes_where_its_threads_stand_and_goes_on(server, home) -> None:
    process, port = server
    process.send_signal(signal.SIGUSR1)
    log, deadline = home / "app.log", time.monotonic() + 30
    while "serve.py" not in (said := log.read_text(encoding="utf-8", errors="replace")):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    assert "most recent call first" in said
    with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=20) as answer:
        assert answer.read() == b"ok"
    assert process.poll() is None
