"""What every test gets: a home of its own, one thread a process, and no accelerator test without an accelerator."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.runs.supervisor import LOCK_NAME

# Several processes test at once, so each computes with one thread; set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# Supervisors keep no warm workers: in a test they would import torch for nobody.
os.environ.setdefault("HYBRIDLAB_SPARES", "0")
# A test that forgets to set its own home must not write into the user's.
_HOME = tempfile.TemporaryDirectory(prefix="hybridlab-tests-", ignore_cleanup_errors=True)
os.environ["HYBRIDLAB_HOME"] = str(Path(_HOME.name) / "home")
os.environ.pop("HYBRIDLAB_STORE", None)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of accelerators where there is none, and keep the browser's tests in one process."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.accelerator.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="torch finds no accelerator here"))
    for item in items:
        if item.get_closest_marker("browser") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("browser"))


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of all collections of garbage: that is most of the memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # as the page server has it


def end_supervisor(home: Path) -> None:
    """End the supervisor of a test's home, which would wait for more runs for minutes; its workers go with it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        lock = json.loads((home / LOCK_NAME).read_text(encoding="utf-8"))
        os.kill(int(lock["pid"]), signal.SIGTERM)


@pytest.fixture(scope="session")
def machine_cache() -> Path:
    """What this process has measured of the machine by now; a home whose ``cache`` leads here goes by it."""
    folder = Path(_HOME.name) / "home" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def supervisor_ender() -> Callable[[Path], None]:
    """Return the function that ends the supervisor of a home."""
    return end_supervisor


def pytest_sessionfinish() -> None:
    """Remove this process's home."""
    end_supervisor(Path(os.environ["HYBRIDLAB_HOME"]))
    _HOME.cleanup()
