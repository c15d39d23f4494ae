"""What every test gets: a home of its own, one thread a process, and no accelerator test without an accelerator."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Several processes test at once, so each computes with one thread; set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# A test that forgets to set its own home must not write into the user's.
_HOME = tempfile.TemporaryDirectory(prefix="hybridlab-tests-", ignore_cleanup_errors=True)
os.environ["HYBRIDLAB_HOME"] = str(Path(_HOME.name) / "home")
os.environ.pop("HYBRIDLAB_STORE", None)


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


def pytest_sessionfinish() -> None:
    """Remove this process's home."""
    _HOME.cleanup()
