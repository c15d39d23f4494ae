"""``hybridlab trace``: the keys that other tools rely on, tables for people, and sentences for bad files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.profiling.traces import training, written

KEYS = {"steps", "categories", "operators", "kernels", "components", "attributed"}


@pytest.fixture
def trace(tmp_path: Path) -> str:
    return str(written(tmp_path / "trace.json.gz", training()))


def test_show(cli: Callable, trace: str) -> None:
    said = cli("trace", "show", trace, "--json")
    assert said.code == 0 and said.json.keys() >= KEYS
    assert [step["name"] for step in said.json["steps"]] == ["4", "5"]
    assert said.json["categories"]["kernel"] == 440
    assert {row["path"] for row in said.json["components"]} >= {"Net_0", "Net_0/Linear_0"}
    table = cli("trace", "show", trace).out
    for words in ("Net_0/Linear_0", "aten::addmm", "gemm", "4.5 KiB at most", "900 µs"):
        assert words in table


def test_show_of_several_is_ranks(cli: Callable, tmp_path: Path) -> None:
    for rank in (0, 1):
        info = {"distributedInfo": {"rank": rank, "world_size": 4}}
        written(tmp_path / f"{rank}.json", training(), **info)
    files = [str(tmp_path / f"{rank}.json") for rank in (1, 0)]
    said = cli("trace", "show", *files, "--json")
    assert [row["rank"] for row in said.json["rows"]] == [0, 1]
    assert said.json["missing"] == [2, 3]
    text = cli("trace", "show", *files)
    assert "2 of 4" in text.out and "2 of the ranks are missing here: 2, 3" in text.err
    twice = cli("trace", "show", files[0], files[0], "--json")
    assert twice.code == 2 and "both of rank 1" in twice.json["errors"][0]["message"]


def test_compare(cli: Callable, trace: str) -> None:
    said = cli("trace", "compare", trace, trace, "--json")
    assert said.code == 0 and said.json.keys() >= KEYS
    assert {row["reason"] for row in said.json["kernels"]} == {"same"}
    assert "Kernels, by change" in cli("trace", "compare", trace, trace).out


@pytest.mark.parametrize("verb", [["show"], ["compare", "/none.json"]])
def test_bad_files_end_in_a_sentence(cli: Callable, tmp_path: Path, verb: list[str]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"a": 1}')
    said = cli("trace", *verb, str(bad), "--json")
    assert said.code == 2 and len(said.json["errors"]) == 1
    assert said.json["errors"][0]["fix"] or said.json["errors"][0]["message"]
    assert cli("trace", "show", str(bad)).err.count("\n") == 1
