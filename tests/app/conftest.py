"""The real pages without a browser, each test with a home and a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from hybridlab.architecture.library import find
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import predictions, shell
from hybridlab.ui.design import keeping, look
from tests.app.held import put_in_session

TOP = Path(__file__).resolve().parents[2]
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a home, and keep the server's start from starting processes that train."""
    folder = tmp_path / "home"
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.setattr(shell, "_call_supervisor", lambda: None)
    # A test that wants costs draws again until they are there; the others need not wait for them at each rerun.
    monkeypatch.setattr(look, "_PATIENCE_S", 0.02)
    monkeypatch.setattr(look, "_CANVAS_PATIENCE_S", 0.02)
    yield folder
    keeping.finish()


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Return a function that opens a page of the app, with parameters in its address."""

    def opened(name: str = "", *, first_view: str = "", **query: str) -> AppTest:
        if name in ("1_Design", "2_Train"):
            predictions.components()
            predictions.tasks()
        test = AppTest.from_file(str(TOP / "app.py"), default_timeout=120).run()
        if first_view:  # the canvas needs a browser
            put_in_session(test, "design_first_view", first_view)
        for key, value in query.items():
            test.query_params[key] = value
        if name:
            test.switch_page(f"pages/{name}.py")
        if name or query:
            test.run()
        assert not test.exception
        return test

    return opened


@pytest.fixture
def make_run() -> MakeRun:
    """Return a function that puts a run into the store as a worker would have left it."""

    def make(
        name: str = "hymba-mini on digits_sequence",
        *,
        state: RunState = RunState.DONE,
        points: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        result: Mapping[str, Any] | None = None,
        error: str = "",
        **training: Any,
    ) -> Run:
        store = open_store()
        spec = {
            "architecture": find("hymba_mini").read_text(encoding="utf-8"),
            "training": {"task": "digits_sequence", "steps": 100, "batch": 64, **training},
            "preset": "hymba_mini",
        }
        run = store.create("train", name, spec)
        run_folder(run.id).mkdir(parents=True, exist_ok=True)
        if state is RunState.QUEUED:
            return run
        lease = Lease(run.id, "token")
        store.leases.claim(run.id, "token", pid=1, birth="never", granted="cpu")
        listed = [
            Point(step, metric, value, step / 10)
            for metric, curve in (points or {}).items()
            for step, value in curve
        ]
        store.leases.beat(lease, listed, step=max((p.step for p in listed), default=0), steps=100)
        if state is not RunState.RUNNING:
            store.leases.finish(lease, state, result=result, error=error)
        return store.get(run.id)

    return make


@pytest.fixture
def said() -> Callable[[AppTest], str]:
    """Return a function that gives all that a page says in running text, messages and captions."""
    kinds = ("markdown", "caption", "error", "warning", "info", "title", "subheader")
    return lambda page: "\n".join(str(item.value) for kind in kinds for item in page.get(kind))
