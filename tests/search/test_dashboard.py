"""Optuna's dashboard serves a study that we wrote, over HTTP, and we go on with one that it made and Optuna ran."""

from __future__ import annotations

import importlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from hybridlab.search.claims import HOLDER
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.description import DESCRIPTION
from hybridlab.search.leases import driver_url
from hybridlab.workflows.search import run_search
from tests.search.backends import BACKENDS, backend

# Required, not skipped: `make dev` installs it.
optuna_dashboard = importlib.import_module("optuna_dashboard")
SMALL = "name: small\nclosed_form: {blocks: 2, widths: [64, 128], heads: [2, 4]}\ntrials: 6\n"
Ask = Callable[..., Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with backend(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def storage(place: str) -> Iterator[BaseStorage]:
    """Open a storage as Optuna and its dashboard do."""
    if "://" not in place:
        yield JournalStorage(JournalFileBackend(place))
        return
    made = RDBStorage(driver_url(place))
    yield made
    made.remove_session()
    made.engine.dispose()


@pytest.fixture
def ask(storage: BaseStorage) -> Iterator[Ask]:
    """Serve a storage as the dashboard's own command does, and return a function that asks it."""
    server = make_server("127.0.0.1", 0, optuna_dashboard.wsgi(storage), handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def get(path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.server_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        return json.loads(text) if path.startswith("/api") else text

    yield get
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_the_dashboard_serves_our_study(file: Path, place: str, ask: Ask) -> None:
    front = run_search(file, study="ours", storage=place)
    (study,) = ask("/api/studies")["study_summaries"]
    assert study["study_name"] == "ours" and study["directions"] == ["maximize", "minimize"]
    found = ask(f"/api/studies/{study['study_id']}")
    assert [trial["state"] for trial in found["trials"]] == ["Complete"] * 6
    assert found["objective_names"] == ["quality", "peak_bytes"]
    values = {trial["number"]: trial["values"] for trial in found["trials"]}
    for point in front.points:
        assert [float(value) for value in values[point.trial]] == list(point.values)
    best = {trial["number"] for trial in found["best_trials"]}
    assert best == {point.trial for point in front.points}
    attributes = {one["key"]: one["value"] for one in found["trials"][0]["user_attrs"]}
    assert HOLDER in attributes
    table = ask(f"/csv/{study['study_id']}")
    assert len(table.strip().splitlines()) == 7
    assert "<html" in ask("/dashboard")


def test_we_go_on_with_a_study_that_the_dashboard_made(
    file: Path, place: str, storage: BaseStorage, ask: Ask
) -> None:
    body = {"study_name": "theirs", "directions": ["maximize", "minimize"]}
    made = ask("/api/studies", body)["study_summary"]
    form = ClosedForm(blocks=2, widths=(64, 128), heads=(2, 4))

    def measured(trial: optuna.Trial) -> tuple[float, ...]:
        choices = form.space.choices
        design = {one.name: trial.suggest_categorical(one.name, one.values) for one in choices}
        return tuple(form.evaluate(form.space.codes([design]))[0].tolist())

    theirs = optuna.load_study(study_name="theirs", storage=storage)
    theirs.optimize(measured, n_trials=2)
    front = run_search(file, study="theirs", storage=place)
    assert [HOLDER in trial.user_attrs for trial in theirs.trials] == [False] * 2 + [True] * 4
    theirs.optimize(measured, n_trials=1)
    found = ask(f"/api/studies/{made['study_id']}")
    assert (len(found["trials"]), front.trials) == (7, 6)
    assert DESCRIPTION in {one["key"] for one in found["user_attrs"]}
    for trial in found["trials"]:
        design = {one["name"]: one["param_external_value"] for one in trial["params"]}
        kinds = {choice.name: type(choice.values[0]) for choice in form.space.choices}
        row = form.space.codes([{name: kinds[name](value) for name, value in design.items()}])
        assert form.evaluate(row)[0].tolist() == pytest.approx(list(map(float, trial["values"])))
