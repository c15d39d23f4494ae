"""Searches that a page starts: the driver is another process, stops when asked, and goes on when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from hybridlab.errors import RunError, SpecError
from hybridlab.search.claims import HOLDER, tally
from hybridlab.search.places import opened, place_of
from hybridlab.workflows import work
from hybridlab.workflows.start_search import (
    _children,
    last_words,
    resume_search,
    start_search,
    stop_search,
)

FILE = "name: small\nclosed_form: {blocks: 2, widths: [64, 128], heads: [2, 4]}\nsampler: random\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    for child in _children:
        child.kill()
        child.wait()
    _children.clear()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def begun(name: str, trials: int) -> bool:
    try:
        return tally(opened(name)).ended >= trials
    except RunError:
        return False


def test_a_search_is_started_stopped_and_gone_on_with() -> None:
    name = start_search(FILE, trials=100_000)
    until(lambda: begun(name, 5))
    assert stop_search(name) == 1
    until(lambda: stop_search(name) == 0)
    study = opened(name)
    ended = tally(study).ended
    running = [one for one in study.trials if one.state is TrialState.RUNNING]
    assert all(one.user_attrs[HOLDER] == "" for one in running), "what it had begun is given back"
    assert last_words(name) == ""
    study.set_user_attr("hybridlab_trials", ended + 3)
    resume_search(name)
    until(lambda: begun(name, ended + 3))
    until(lambda: stop_search(name) == 0)
    assert tally(opened(name)).running == 0


def test_what_is_wrong_is_told_at_once_or_in_the_log(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpecError):
        start_search("name: x\n")
    for verb in (resume_search, stop_search):
        with pytest.raises(RunError, match="no study called 'none'"):
            verb("none")
    assert last_words("none") == ""
    file = home.parent / "small.yaml"
    file.write_text(FILE.replace("random", "best"))
    assert work.main(["one", "--file", str(file), "--trials", "3"]) == 1
    assert "there is no sampler called 'best'" in capsys.readouterr().err
    assert not Path(place_of("one")).exists()
