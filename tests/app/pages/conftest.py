"""A visitor who goes through the pages; all tests of a process share the warm prediction processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from hybridlab.places import app_file
from hybridlab.runs import launcher
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import Store, open_store
from hybridlab.ui import predictions, shell
from hybridlab.ui.design import keeping
from hybridlab.ui.memory import answered, look, timeline
from hybridlab.ui.state import Design
from tests.app.held import in_session
from tests.app.stepped import BATCH, PRESET, TRAINING

PATIENCE_S = 120.0


@pytest.fixture(scope="session")
def warm() -> None:
    """Wait once for the palette and the tasks, which the first start of a version has to ask for."""
    predictions.components()
    predictions.tasks()


@pytest.fixture(autouse=True)
def home(warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, in which no supervisor starts, so that runs stay as the test made them."""
    folder = tmp_path / "home"
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.setattr(launcher, "_spawn", lambda *given: SimpleNamespace(poll=lambda: None))
    monkeypatch.setattr(shell, "start", lambda: None)
    folder.mkdir()
    yield folder
    keeping.finish()
    open_store().close()


class Visitor:
    """One visitor of the app, without a browser."""

    def __init__(self) -> None:
        self.at = AppTest.from_file(str(app_file()), default_timeout=PATIENCE_S)

    def open(self, page: str = "", **query: str) -> AppTest:
        """Open a page by its file, such as ``1_Design``, with parameters in the address."""
        if not page:
            self.at.query_params.update(query)
            self.at.run()
            return self._whole()
        if not self.at._registered_pages:
            self.at.run()
        self.at.query_params.update(query)
        self.at.switch_page(f"pages/{page}.py").run()
        return self._whole()

    def press(self, key_or_label: str) -> AppTest:
        """Press the one button of this key or label, and go where it leads."""
        found = [b for b in self.at.button if key_or_label in (b.key, b.label)]
        assert len(found) == 1, (key_or_label, [(b.key, b.label) for b in self.at.button])
        assert not found[0].disabled, f"{key_or_label} is greyed out"
        return self._drawn(found[0].click())

    def answer(self, opener: str, key_or_label: str) -> AppTest:
        """Press a button of the dialog that ``opener`` opened.

        A browser would run the dialog alone; here the page runs, so the button that opens it is pressed with it.
        """
        self.button(opener).click()
        found = [b for b in self.at.button if key_or_label in (b.key, b.label) and b.key != opener]
        return self._drawn(found[-1].click())

    def give(self, widget: Any, value: Any) -> AppTest:
        """Give a widget a value."""
        return self._drawn(widget.set_value(value))

    def until(self, ready: Callable[[AppTest], object]) -> AppTest:
        """Draw the page anew, as its own timers would, until it says what is waited for."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready(self.at):
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.1)
            self.at.run()
            self._whole()
        return self.at

    def _drawn(self, widget: Any) -> AppTest:
        self.at._page_hash = ""
        widget.run()
        return self._whole()

    def _whole(self) -> AppTest:
        """Run again where the page was left in the middle, and insist that nothing failed."""
        self.at._page_hash = ""
        if not self.at.main.children:
            self.at.run()
        assert not self.at.exception, [e.value for e in self.at.exception]
        assert self.at.main.children, "the page is empty"
        return self.at

    @property
    def design(self) -> Design:
        """The design that this visitor edits."""
        found: Design = in_session(self.at, "design")
        return found

    def button(self, key_or_label: str) -> Any:
        """Return the button of this key or label, greyed out or not."""
        return next(b for b in self.at.button if key_or_label in (b.key, b.label))

    def words(self) -> str:
        """Everything the page says, line by line, as it is sent to the browser."""
        kinds = [
            "title",
            "subheader",
            "header",
            "markdown",
            "caption",
            "error",
            "warning",
            "info",
            "code",
        ]
        said = [str(element.value) for kind in kinds for element in self.at.get(kind)]
        labels = [button.label for button in self.at.button]
        options = [option for radio in self.at.radio for option in radio.options]
        return "\n".join([*said, *labels, *options])

    def component(self, name: str) -> dict[str, Any]:
        """Return what one of our own browser components was sent; its key holds ``name``."""
        known = {e.proto.id: e.proto for e in self.at.get("bidi_component")}
        sent = [proto for key, proto in known.items() if name in key]
        assert len(sent) == 1, list(known)
        content: dict[str, Any] = json.loads(sent[0].json or sent[0].bytes)
        return content


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


class Runs:
    """Puts runs into the store of the test's home, in any state, without training anything."""

    def __init__(self) -> None:
        self.store: Store = open_store()

    def queued(
        self, name: str = "a run", *, text: str = "", kind: str = "train", **training: Any
    ) -> Run:
        training = {"task": "parity", "seed": 0, **training}
        spec = {"architecture": text, "training": training, "preset": None}
        run = self.store.create(kind, name, spec, home=home_id())
        run_folder(run.id).mkdir(parents=True)
        return run

    def running(self, name: str = "a run", step: int = 5, steps: int = 10, **more: Any) -> Run:
        run = self.queued(name, **more)
        self.store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
        points = [Point(s, "loss", 1 / s, float(s)) for s in range(1, step + 1)]
        return self.store.leases.beat(Lease(run.id, "token"), points, step=step, steps=steps)

    def ended(
        self,
        name: str = "a run",
        state: RunState = RunState.DONE,
        metrics: Mapping[str, float] | None = None,
        error: str = "",
        **more: Any,
    ) -> Run:
        run = self.running(name, **more)
        result: dict[str, Any] | None = None
        if state is RunState.DONE:
            result = {"metrics": dict(metrics or {}), "steps": 10, "seconds": 2.5}
            result["stop_reason"] = "target"
        self.store.leases.finish(Lease(run.id, "token"), state, result=result, error=error)
        return self.store.get(run.id)


@pytest.fixture
def runs(home: Path) -> Runs:
    return Runs()


@pytest.fixture
def opened(visitor):
    """The Train page with a preset and parity chosen."""
    for label, wanted in (("Architecture", "preset lstm_attention_mini"), ("Task", "parity")):
        at = visitor.at if label == "Task" else visitor.open("2_Train")
        (box,) = [box for box in at.selectbox if box.label == label]
        visitor.give(box, wanted)
    return visitor


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for answers where a page would draw again and again until they are there."""
    for module in (look, timeline, answered):
        monkeypatch.setattr(module, "_PATIENCE_S", 60.0)


@pytest.fixture
def planned(visitor: Any, patience: None) -> Any:
    """The page with a small step of a preset on it, traced and solved."""
    visitor.open()
    state = visitor.at.session_state["hybridlab"]
    state["train_source"], state["train_task"] = f"preset {PRESET}", "parity"
    state["settings.parity"] = {"batch": BATCH}
    state["task_params.parity"] = TRAINING["task_params"]
    visitor.open("5_Memory")
    visitor.until(lambda at: len(at.get("plotly_chart")) == 2)
    return visitor
