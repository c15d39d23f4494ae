"""The process that drives a study for a page: it makes the study, is the only one, says how it ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hybridlab.errors import Problem, RunError
from hybridlab.search import driver as driving
from hybridlab.search.driver import Request, driver, note_end, requested, start_driver, stop_driver
from hybridlab.search.spec import SearchSpec
from hybridlab.workflows import search_anew

FILE = {
    "name": "small",
    "closed_form": {"blocks": 2, "widths": [64], "heads": [2], "mixers": ["attention", "lstm"]},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))


def test_a_driver_is_started_alone_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "MODULE", "timeit")  # any module that takes a while, without torch
    monkeypatch.setattr(driving, "module_command", lambda module, name: ["sleep", "300"])
    assert driver("small") is None and not stop_driver("small")
    start_driver("small", Request(FILE, 5, "random", 1))
    known = driver("small")
    assert known is not None and known.alive and not known.stopping and not known.problems
    with pytest.raises(RunError, match="worked on already"):
        start_driver("small", Request(FILE, 9, "random", 1))
    assert requested("small").trials == 5
    assert stop_driver("small")
    deadline = time.monotonic() + 60
    while (known := driver("small")) is not None and known.alive and time.monotonic() < deadline:
        assert known.stopping
        time.sleep(0.02)
    assert known is not None and not known.alive
    assert "without a word" in known.problems[0].message, "it was killed before it could say"
    note_end("small", RunError(Problem("limits", "no design keeps this")))
    known = driver("small")
    assert known is not None and known.problems[0].message == "no design keeps this"


def test_what_was_asked_for_is_done_and_its_end_noted() -> None:
    from hybridlab.search.state import StudyReader

    with pytest.raises(RunError, match="nothing was asked"):
        requested("small")
    folder = driving.searches_folder()
    folder.mkdir(parents=True)
    file = SearchSpec.model_validate(FILE).model_dump(mode="json")
    driving._write(folder / "small.request.json", vars(Request(file, 4, "random", 1)))
    assert search_anew.main(["small"]) == 0
    assert StudyReader("small").look().ended == 4
    driving._write(folder / "small.request.json", vars(Request(file, 6, "random", 1)))
    assert search_anew.main(["small"]) == 0, "the same study is gone on with"
    state = StudyReader("small").look()
    assert (state.ended, state.asked) == (6, 6)
    wrong = vars(Request(file, 4, "nonsense", 1))
    driving._write(folder / "other.request.json", wrong)
    assert search_anew.main(["other"]) == 1
    assert "nonsense" in driving._read(folder / "other.ended.json")["problems"][0]["message"]


def test_a_design_is_kept_under_its_content() -> None:
    one = driving.keep_design("name: a\n")
    assert driving.keep_design("name: a\n") == one
    assert driving.keep_design("name: b\n") != one
    assert one.read_text(encoding="utf-8") == "name: a\n"
