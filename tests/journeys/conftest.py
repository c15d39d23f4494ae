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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Error,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

sys.path.insert(0, str(Path(__file__).parent))
from chromium import FLAGS, SEEN, find

TOP = Path(__file__).resolve().parents[2]
SCREENSHOTS = TOP / "artifacts" / "screenshots"
PICTURES = bool(os.environ.get("HYBRIDLAB_SCREENSHOTS"))
"""Whether pictures are kept: taking them, and drawing pages anew for them, is a good part of what journeys cost."""
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


def new_context(chromium: Browser, app_server: AppServer, *, seen: bool = True) -> BrowserContext:
    """Return a visitor of the app: with nothing kept but, if wanted, that the tour has been seen."""
    context = chromium.new_context(
        base_url=app_server.url, viewport={"width": 1440, "height": 900}, accept_downloads=True
    )
    context.set_default_timeout(EXPECT_MS)
    if seen:
        context.add_init_script(SEEN)
    return context


@pytest.fixture(scope="session")
def visitor(chromium: Browser, app_server: AppServer) -> Iterator[BrowserContext]:
    """One visitor for many tests, with a window that stays: opening another costs as much as half a page of the app."""
    context = new_context(chromium, app_server)
    context.new_page()
    yield context
    context.close()


@pytest.fixture(params=["light"])
def page(
    request: pytest.FixtureRequest,
    chromium: Browser,
    app_server: AppServer,
    visitor: BrowserContext,
) -> Iterator[Page]:
    """A page of a visitor who keeps nothing from test to test; parametrize it with ``indirect`` for ``dark``.

    They asked their system for less motion, which spares the machine a third of a page's drawing; newcomers did not,
    and neither did the other visitors that some tests bring.
    """
    newcomer = request.node.get_closest_marker("newcomer") is not None
    context = new_context(chromium, app_server, seen=False) if newcomer else visitor
    scheme: Any = request.param
    others = list(context.pages)
    opened = context.new_page()
    opened.emulate_media(
        color_scheme=scheme, reduced_motion="no-preference" if newcomer else "reduce"
    )
    failures, said = request.session.testsfailed, listened(opened)
    yield opened
    if request.session.testsfailed > failures:
        told_of_failure(request, opened, app_server, said)
    if newcomer:
        context.close()
        return
    for mine in [page for page in context.pages if page not in others]:
        with contextlib.suppress(Error):
            mine.evaluate("localStorage.clear(), sessionStorage.clear()")
        mine.close()
    context.clear_cookies()
    context.clear_permissions()


def listened(page: Page) -> list[str]:
    """Return a list that gets what goes wrong in a page's own scripts, as it comes."""
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(f"error: {error.stack or error.message}"))
    page.on("crash", lambda _: said.append("the page crashed"))
    page.on(
        "console", lambda one: said.append(f"console: {one.text}") if one.type == "error" else None
    )
    return said


def told_of_failure(
    request: pytest.FixtureRequest, page: Page, app_server: AppServer, heard: Sequence[str] = ()
) -> None:
    """Keep a screenshot of a test that failed; print where page and server stand, and what the server said."""
    with contextlib.suppress(Error):
        page.screenshot(path=str(SCREENSHOTS / f"failed-{request.node.name}.png"))
        apps = page.get_by_test_id("stApp").evaluate_all(
            "all => JSON.stringify(all.map(app => ({...app.dataset})))"
        )
        print(f"the page is {page.url}, {apps}, and its scripts said", *heard[-20:], sep="\n")
    if app_server.process.poll() is None:
        app_server.process.send_signal(signal.SIGUSR1)
        time.sleep(1)
    said = app_server.log.read_text(encoding="utf-8", errors="replace")
    print(f"the app said:\n{said[-12_000:]}")


@pytest.fixture
def shoot() -> Any:
    """Return a function that keeps a screenshot of a page in artifacts/screenshots, if wanted, or where it is told."""

    def keep(page: Page, name: str, target: Path | None = None) -> None:
        if PICTURES or target is not None:
            path = target or SCREENSHOTS / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(path))

    return keep


@pytest.fixture(scope="session")
def turned() -> set[tuple[str, ...]]:
    """The pages that were turned dark and light again by now: their paths, and what their addresses name."""
    return set()


@pytest.fixture
def shoot_both(shoot: Any, turned: set[tuple[str, ...]]) -> Any:
    """Return a function that keeps a screenshot on a light and on a dark page; the page is light afterwards.

    Without pictures each page is turned once, for it must be drawn without an error in both.
    """
    drawn = """dark => {
        const [r, g, b] = getComputedStyle(document.querySelector("[data-testid=stApp]"))
            .backgroundColor.match(/\\d+/g).map(Number);
        return (r + g + b < 384) === dark;
    }"""

    def keep(page: Page, name: str) -> None:
        address = urlsplit(page.url)
        where = (address.path, *sorted(parse_qs(address.query)))
        if where in turned and not PICTURES:
            return
        turned.add(where)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(drawn, arg=scheme == "dark")
            page.wait_for_timeout(250)  # charts and the canvas take their colours a moment later
            expect(page.get_by_test_id("stException")).to_have_count(0)
            shoot(page, f"{name}_{scheme}")

    return keep
