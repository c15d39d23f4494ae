"""The real app on a free port with a home of its own, and a real browser to drive it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from chromium import FLAGS, SEEN, find

TOP = Path(__file__).resolve().parents[2]
SCREENSHOTS = TOP / "artifacts" / "screenshots"
START_SECONDS = 90
EXPECT_MS = 90_000


@dataclass(frozen=True)
class AppServer:
    """A running app: where it is, its home folder and its process."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_app(home: Path, port: int | None = None) -> AppServer:
    """Start the app as a user does and wait until it is healthy."""
    port = port or free_port()
    home.mkdir(parents=True, exist_ok=True)
    log = home / "app.log"
    command = [
        sys.executable,
        "-c",
        "from hybridlab.cli import main; main()",
        "app",
        f"--port={port}",
    ]
    # Not the tests' one thread: runs get their share of the cores from the supervisor.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=home,
            env={**environment, "HYBRIDLAB_HOME": str(home)},
            start_new_session=True,
        )
    url = f"http://localhost:{port}"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return AppServer(url, home, process, log)
        except OSError:
            time.sleep(0.2)
    stop_app(process)
    raise RuntimeError(f"the app did not start: {log.read_text(errors='replace')[-2000:]}")


def stop_app(process: subprocess.Popen[bytes]) -> None:
    """End the app and what it started in its own session."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                continue


@pytest.fixture(scope="session")
def app_server(
    tmp_path_factory: pytest.TempPathFactory, supervisor_ender: Callable[[Path], None]
) -> Iterator[AppServer]:
    """The app, started once for all browser tests of this process."""
    server = start_app(tmp_path_factory.mktemp("journeys") / "home")
    yield server
    stop_app(server.process)
    supervisor_ender(server.home)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright, started once."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Chromium, started once; `make test` has made sure that there is one."""
    path = find()
    if path is None:
        pytest.fail(
            "there is no Chromium; `make test` finds or installs one, or set HYBRIDLAB_CHROMIUM"
        )
    browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
    expect.set_options(timeout=EXPECT_MS)
    yield browser
    browser.close()


@pytest.fixture(params=["light"])
def page(
    request: pytest.FixtureRequest, chromium: Browser, app_server: AppServer
) -> Iterator[Page]:
    """A page in a fresh context whose links are those of the app; parametrize it with ``indirect`` for ``dark``."""
    scheme: Any = request.param
    context = chromium.new_context(
        base_url=app_server.url,
        color_scheme=scheme,
        viewport={"width": 1440, "height": 900},
        accept_downloads=True,
    )
    context.set_default_timeout(EXPECT_MS)
    if request.node.get_closest_marker("newcomer") is None:
        context.add_init_script(SEEN)
    opened = context.new_page()
    failures = request.session.testsfailed
    yield opened
    if request.session.testsfailed > failures:
        with contextlib.suppress(Error):
            opened.screenshot(path=str(SCREENSHOTS / f"failed-{request.node.name}.png"))
        said = app_server.log.read_text(encoding="utf-8", errors="replace")
        print(f"the app said:\n{said[-3000:]}")
    context.close()


@pytest.fixture
def shoot() -> Any:
    """Return a function that keeps a screenshot of a page in artifacts/screenshots."""

    def keep(page: Page, name: str, target: Path | None = None) -> Path:
        path = target or SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(path))
        return path

    return keep
