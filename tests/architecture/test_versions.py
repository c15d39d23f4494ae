"""Versions in the home folder: each text once, bounded, whole, and none lost between two writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybridlab.architecture import versions
from hybridlab.errors import SpecError

HISTORY = "open-0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def keep(text: str, at: float, **more):
    return versions.keep(HISTORY, text, title="a title", now=at, **more)


def texts() -> list[str]:
    return [version.text for version in versions.versions(HISTORY)]


def test_versions_come_newest_first_with_all_that_is_known_of_them() -> None:
    first = keep("a", 1.0, fingerprint="f", origin="preset x")
    second = keep("b\r\nü", 2.0, parent=first.id, change="+1 node", name=" best ")
    assert texts() == ["b\r\nü", "a"]
    assert versions.versions(HISTORY) == [second, first]
    assert (second.parent, second.change, second.name) == (first.id, "+1 node", "best")
    assert versions.read(HISTORY, first.id) == first
    (history,) = versions.histories()
    assert (history.title, history.edited) == ("a title", 2.0)
    assert versions.latest(history) == second


def test_the_same_text_is_kept_once_with_its_name_and_parent() -> None:
    first = keep("a", 1.0, name="start")
    keep("b", 2.0, parent=first.id)
    again = keep("a", 3.0, parent=versions.version_id("b"))
    assert texts() == ["a", "b"]
    assert (again.name, again.parent, again.since, again.time) == ("start", "", 1.0, 3.0)


def test_a_burst_of_edits_leaves_its_last_and_nothing_older_is_replaced() -> None:
    first = keep("a", 1.0)
    for index in range(5):
        last = versions.versions(HISTORY)[0].id
        keep(f"b{index}", 10.0 + index, parent=first.id, instead_of=last, burst_from=10.0)
    assert texts() == ["b4", "a"]
    keep("a", 20.0, instead_of=versions.version_id("b4"), burst_from=10.0)
    keep("c", 21.0, instead_of=first.id, burst_from=10.0)
    assert texts() == ["c", "a"], "a text from before the burst stays, though it came again"
    versions.name_version(HISTORY, versions.version_id("c"), "good")
    keep("d", 22.0, instead_of=versions.version_id("c"), burst_from=10.0)
    assert texts() == ["d", "c", "a"], "a named one stays too"


def test_the_last_fifty_automatic_ones_and_all_named_ones_are_kept() -> None:
    for index in range(80):
        keep(f"text {index}", float(index), name="named" if index in (0, 7) else "")
    kept = versions.versions(HISTORY)
    assert [v.text for v in kept if v.name] == ["text 7", "text 0"]
    assert [v.text for v in kept if not v.name] == [f"text {i}" for i in range(79, 29, -1)]


def test_a_name_is_given_and_taken_away() -> None:
    made = keep("a", 1.0)
    versions.name_version(HISTORY, made.id, "x" * 500)
    assert versions.versions(HISTORY)[0].name == "x" * versions.MAX_NAME
    versions.name_version(HISTORY, made.id, "  ")
    assert versions.versions(HISTORY)[0].name == ""
    for bad in ("0" * 20, "../about", ""):
        with pytest.raises(SpecError, match="not there"):
            versions.name_version(HISTORY, bad, "x")


@pytest.mark.parametrize("history", ["", "..", "open-../x", "saved-xyz", "open-0123456789ABCDEF"])
def test_what_is_no_history_is_refused(history: str) -> None:
    with pytest.raises(SpecError, match="history"):
        versions.keep(history, "a", title="x")


def test_damaged_files_are_left_out(home: Path) -> None:
    good = keep("a", 1.0)
    folder = home / "versions" / HISTORY
    whole = json.loads((folder / f"{good.id}.json").read_text(encoding="utf-8"))
    damaged = ["", "{", "[" * 5_000, "[1]", json.dumps({**whole, "text": "other"})]
    damaged += [json.dumps({**whole, "time": "soon"}), json.dumps({"id": good.id})]
    for index, content in enumerate(damaged):
        (folder / f"{index:020d}.json").write_text(content, encoding="utf-8")
    assert texts() == ["a"]
    (folder / "about.json").write_text('{"titel": 3}', encoding="utf-8")
    assert versions.histories() == []


def test_saving_under_a_name_takes_the_versions_along() -> None:
    saved = versions.history_of("mine")
    keep("a", 1.0, name="first")
    keep("b", 2.0)
    versions.keep(saved, "a", title="x", now=5.0)
    versions.hand_on(HISTORY, saved)
    found = [(version.text, version.name, version.time) for version in versions.versions(saved)]
    assert found == [("a", "first", 5.0), ("b", "", 2.0)]
    assert texts() == ["b", "a"]
    versions.forget(HISTORY)
    assert texts() == []
    versions.hand_on(HISTORY, saved)


def test_old_unsaved_histories_go_but_none_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_UNSAVED", 3)
    named, *others = [f"open-{index:016x}" for index in range(6)]
    saved = versions.history_of("mine")
    versions.keep(saved, "s", title="s", now=0.5)
    versions.keep(named, "n", title="n", name="keep me", now=1.0)
    for index, history in enumerate(others):
        versions.keep(history, "t", title="t", now=2.0 + index)
    assert {history.id for history in versions.histories()} == {saved, named, *others[-3:]}


def test_a_folder_that_cannot_be_written_is_told(home: Path) -> None:
    home.mkdir()
    (home / "versions").write_text("in the way", encoding="utf-8")
    with pytest.raises(SpecError, match="could not be kept"):
        keep("a", 1.0)
    assert versions.histories() == []
    assert versions.versions(HISTORY) == []


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(SpecError, match="too large"):
        keep("x" * 600_000, 1.0)


def test_two_processes_at_once_lose_nothing(home: Path) -> None:
    code = (
        "import sys\nfrom hybridlab.architecture import versions\n"
        "for i in range(20):\n"
        f"    versions.keep('{HISTORY}', f'{{sys.argv[1]}} {{i}}', title='t', name='n')\n"
    )
    environment = {**os.environ, "HYBRIDLAB_HOME": str(home)}
    running = [subprocess.Popen([sys.executable, "-c", code, who], env=environment) for who in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    assert sorted(texts()) == sorted(f"{who} {i}" for who in "ab" for i in range(20))
    leftovers = [path for path in (home / "versions" / HISTORY).iterdir() if "keeping" in path.name]
    assert leftovers == []
