"""Finds a Chromium for the browser tests, or gets one: on the system, Playwright's own download, or Debian's package.

``python tests/journeys/chromium.py`` prints its path; ``make test`` hands that on in HYBRIDLAB_CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# As root, in a container, and with no way out of the machine: Chromium then starts and looks up nothing.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
SEEN = "try { localStorage.setItem('hybridlab.tour', 'seen') } catch {}"
"""A script for a new context: its visitor has seen the tour, which would else begin by itself."""
DOWNLOAD_SECONDS = 300
INSTALL_SECONDS = 600


def on_the_system() -> Iterator[str]:
    """Yield what the environment names and what is installed."""
    if named := os.environ.get("HYBRIDLAB_CHROMIUM"):
        yield named
    yield from filter(None, map(shutil.which, NAMES))
    yield from (path for path in APPLICATIONS if Path(path).exists())


def playwrights_own() -> Iterator[str]:
    """Yield where Playwright keeps its browser, if it has been downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if Path(path).exists():
        yield path


def starts(path: str) -> bool:
    """Say whether a browser runs: a download may lack libraries, a package may be an empty shell."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def download() -> None:
    """Let Playwright download its Chromium."""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    attempt(command, DOWNLOAD_SECONDS)


def install() -> None:
    """Install Debian's Chromium where that is allowed."""
    if not shutil.which("apt-get"):
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and not shutil.which("sudo"):
        return
    attempt([*prefix, "apt-get", "update", "-q"], INSTALL_SECONDS)
    attempt(
        [*prefix, "apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"],
        INSTALL_SECONDS,
    )


def attempt(command: list[str], seconds: int) -> None:
    """Run a command for at most some seconds, its output on stderr; what it could not do is seen afterwards."""
    try:
        subprocess.run(
            command, stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{' '.join(command)}: {error}", file=sys.stderr)


def find() -> str | None:
    """Return a Chromium that starts, or None; nothing is installed."""
    for look in (on_the_system, playwrights_own):
        for path in look():
            if starts(path):
                return path
    return None


def main() -> int:
    """Print the path of a Chromium, getting one where there is none."""
    steps: tuple[Callable[[], None], ...] = (lambda: None, download, install)
    for step in steps:
        step()
        if path := find():
            print(path)
            return 0
    print(
        "The browser tests need Chromium, and it could be neither found, downloaded nor installed: "
        "install it (on Debian or Ubuntu: apt install chromium) and run this again.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
