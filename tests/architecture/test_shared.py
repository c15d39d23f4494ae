"""Shared versions: fixed by their content, found by their whole id only."""

from __future__ import annotations

import json
import os

import pytest

from hybridlab.architecture import library, shared, versions
from hybridlab.architecture.shared import share
from hybridlab.errors import SpecError

TEXT = library.find("jamba_mini").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    return tmp_path


def test_the_same_text_has_the_same_link_and_another_has_another() -> None:
    first = share(TEXT, "before")
    assert share(TEXT, "before") == first
    assert share(TEXT).id != first.id
    found = shared.shared(first.id)
    assert (found.text, found.before) == (TEXT, "before")


@pytest.mark.parametrize(
    "code", ["", "cut", "<script>", "0" * 31, "0" * 33, "../../../etc/passwd", "A" * 32, "é" * 32]
)
def test_a_cut_code_is_told_in_one_sentence(code) -> None:
    with pytest.raises(SpecError, match="cut or changed") as told:
        shared.shared(code)
    assert len(told.value.problems) == 1


def test_an_unknown_code_is_told() -> None:
    with pytest.raises(SpecError, match="not on this server"):
        shared.shared("0" * 32)


def test_what_was_shared_cannot_be_written_over(home) -> None:
    made = share(TEXT)
    file = home / "shared" / f"{made.id}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"text": "another"}), encoding="utf-8")
    with pytest.raises(SpecError, match="not on this server"):
        shared.shared(made.id)
    for damaged in ("", "{", "[]", "{}"):
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(SpecError, match="not on this server"):
            shared.shared(made.id)
    assert share(TEXT).id == made.id
    assert shared.shared(made.id).text == TEXT


def test_the_oldest_go_beyond_the_bound(home, monkeypatch) -> None:
    monkeypatch.setattr(shared, "MOST", 2)
    made = []
    for number in range(4):
        made.append(share(f"text {number}"))
        os.utime(home / "shared" / f"{made[-1].id}.json", (number, number))
    share("the last")
    kept = {path.stem for path in (home / "shared").glob("*.json")}
    assert kept == {made[3].id, share("the last").id}


def test_a_folder_that_cannot_be_written_is_told(home) -> None:
    (home / "shared").write_text("in the way", encoding="utf-8")
    with pytest.raises(SpecError, match="could not be shared"):
        share(TEXT)
    with pytest.raises(SpecError, match="too large"):
        share("x" * 600_000)


def test_the_nearest_version_that_two_were_made_from() -> None:
    history = versions.new_history()

    def keep(text: str, parent: str = "") -> str:
        parent = versions.version_id(parent) if parent else ""
        return versions.keep(history, text, title="x", parent=parent).id

    first, second = keep("a"), keep("b", "a")
    left, right = keep("c", "b"), keep("d", "b")
    for one, other, wanted in [
        (left, right, second),
        (right, left, second),
        (left, second, second),
        (left, left, left),
        (first, right, first),
    ]:
        found = versions.common(history, one, other)
        assert found is not None
        assert found.id == wanted
    assert versions.common(history, left, keep("stranger")) is None
    assert versions.common(history, left, "0" * 20) is None


def test_the_nearest_is_found_also_where_versions_between_have_gone() -> None:
    history = versions.new_history()
    first = versions.keep(history, "a", title="x", now=1.0)
    middle = versions.keep(history, "b", title="x", parent=first.id, now=2.0)
    left = versions.keep(history, "c", title="x", parent=middle.id, now=3.0)
    right = versions.keep(
        history, "d", title="x", parent=first.id, instead_of=middle.id, burst_from=1.5, now=4.0
    )
    assert versions.read(history, middle.id) is None
    found = versions.common(history, left.id, right.id)
    assert found is not None
    assert found.text == "a"
    other = versions.history_of("saved")
    versions.hand_on(history, other)
    found = versions.common(other, left.id, right.id)
    assert found is not None
    assert found.text == "a"


def test_only_so_many_versions_that_are_gone_are_remembered(home, monkeypatch) -> None:
    monkeypatch.setattr(versions, "_MOST_GONE", 3)
    history, before = versions.new_history(), ""
    for number in range(20):
        made = versions.keep(history, str(number), title="x", instead_of=before)
        before = made.id
    lines = (home / "versions" / history / ".gone").read_text(encoding="ascii").splitlines()
    assert 3 <= len(lines) <= 8
    (home / "versions" / history / ".gone").write_bytes(b"\xff\xfe nothing\n\n")
    assert versions.common(history, before, before) is not None
