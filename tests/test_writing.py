"""Files that are written whole: a failed write leaves the one before, a link goes on leading to its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridlab.hardware.kept import entries, put
from hybridlab.writing import write_whole


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_whole(file, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "half of it\ud800")
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "a.json", "x")


def test_a_link_goes_on_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("damaged", ["{", "[1]", '"text"', "\x00"])
def test_a_damaged_file_of_measurements_holds_nothing_and_is_replaced(
    tmp_path: Path, damaged: str
) -> None:
    file = tmp_path / "cache" / "kept.json"
    assert entries(file) == {}
    put(file, "here", {"a": 1})
    put(file, "there", {"b": 2})
    assert entries(file) == {"here": {"a": 1}, "there": {"b": 2}}
    file.write_text(damaged, encoding="utf-8")
    assert entries(file) == {}
    put(file, "here", {"a": 3})
    assert entries(file) == {"here": {"a": 3}}


def test_measurements_that_cannot_be_kept_are_only_not_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    put(tmp_path / "cache" / "kept.json", "here", {"a": 1})
    assert entries(tmp_path / "cache" / "kept.json") == {}
