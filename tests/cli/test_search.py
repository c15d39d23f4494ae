"""The verb that searches, as scripts call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hybridlab.architecture.document import loads
from tests.cli.conftest import Said

Cli = Callable[..., Said]
SMALL = "name: small\nclosed_form: {blocks: 2, widths: [64, 128], heads: [2, 4]}\ntrials: 12\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def test_the_front_has_the_keys_that_scripts_rely_on(cli: Cli, file: str, home: Path) -> None:
    said = cli("search", file, "--trials", "30", "--seed", "2", "--json")
    assert said.code == 0
    assert "30 of 30 trials" in said.err
    found = said.json
    assert {"study", "hypervolume", "hypervolume_share", "front"} <= set(found)
    assert 0.8 < found["hypervolume_share"] <= 1
    for point in found["front"]:
        assert {"trial", "values", "architecture"} <= set(point)
        quality, peak_bytes = point["values"]
        assert 0 < quality < 1 < peak_bytes
        assert loads(point["architecture"]).width == point["design"]["width"]
    assert (home / "searches" / f"{found['study']}.journal").exists()
    assert (
        cli("search", file, "--trials", "30", "--seed", "2", "--json").json["front"]
        == found["front"]
    )


def test_a_named_study_is_gone_on_with_and_shown_as_a_table(cli: Cli, file: str) -> None:
    assert cli("search", file, "--sampler", "random", "--study", "mine").code == 0
    said = cli("search", file, "--study", "mine", "--trials", "15")
    assert said.code == 0
    assert "front of mine" in said.out and "quality (by formula)" in said.out
    assert "15, 0 over a limit, 0 failed" in said.out


def test_several_workers_share_a_study(cli: Cli, file: str, home: Path) -> None:
    said = cli("search", file, "--workers", "2", "--study", "mine", "--trials", "30", "--json")
    assert said.code == 0 and "study: mine" in said.err
    assert said.json["failed"] == 0 and said.json["trials"] == 30
    assert not (home / "searches" / "mine.log").read_text()


def test_a_worker_needs_the_name_alone(cli: Cli, file: str, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/there.sqlite"
    arguments = (file, "--study", "mine", "--storage", place, "--sampler", "random")
    assert cli("search", *arguments, "--trials", "4").code == 0
    done = cli("worker", "--study", "mine", "--json")
    assert done.code == 0 and done.json["trials"] == 4
    for arguments in (
        ["--study", "min"],
        ["--study", "../x"],
        ["--study", "mine", "--workers", "0"],
    ):
        assert cli("worker", *arguments, "--json").code == 2
    said = cli("front", "min", "--json")
    assert said.code == 2 and "did you mean 'mine'" in said.json["errors"][0]["fix"]


def test_a_front_is_written_as_files_that_validate(cli: Cli, file: str, tmp_path: Path) -> None:
    assert cli("search", file, "--study", "mine", "--trials", "9").code == 0
    folder = tmp_path / "front"
    said = cli("front", "mine", "--output", str(folder), "--json")
    points = said.json["front"]
    files = sorted(folder.glob("*.yaml"))
    assert [file.name for file in files] == sorted(f"trial-{p['trial']:04}.yaml" for p in points)
    for path in files[:3]:
        checked = cli("validate", str(path), "--task", "parity", "--json")
        assert checked.code == 0 and checked.json["ok"]
    rows = (folder / "front.csv").read_text().strip().splitlines()
    assert rows[0].startswith("trial,quality,peak_bytes,width,") and len(rows) == len(points) + 1
    assert f"# mine, trial {points[0]['trial']}: quality" in files[0].read_text() or len(files) > 1
    assert cli("front", "mine", "--output", str(folder)).code == 0, "the same front again"
    assert "front of mine" in cli("front", "mine").out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    said = cli("front", "mine", "--output", str(tmp_path / "other"), "--json")
    assert said.code == 2 and "holds something else" in said.json["errors"][0]["message"]
    assert cli("front", "mine", "--output", file, "--json").code == 1


def test_a_search_that_is_stopped_says_so_by_its_exit_code(
    cli: Cli, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    with monkeypatch.context() as patched:
        patched.setattr("hybridlab.workflows.work.stopped_by_signals", stopped)
        said = cli("search", file, "--study", "mine", "--json")
        assert said.code == 130 and said.json["trials"] < 12 and "goes on" in said.err
        assert cli("worker", "--study", "mine", "--json").code == 130
    done = cli("worker", "--study", "mine", "--json")
    assert done.code == 0 and done.json["trials"] == 12


def test_bad_input_is_told(cli: Cli, file: str, tmp_path: Path) -> None:
    for arguments in (
        ["none.yaml"],
        [file, "--sampler", "best"],
        [file, "--trials", "0"],
        [file, "--seed", "-1"],
    ):
        said = cli("search", *arguments, "--json")
        assert said.code == 2
        assert said.json["errors"]
    said = cli("search", file, "--storage", "nonsense://x", "--json")
    assert said.code == 1
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("[2, 4]", "[2]"))
    assert cli("search", file, "--study", "mine", "--trials", "1").code == 0
    said = cli("search", str(other), "--study", "mine", "--json")
    assert said.code == 2
    assert "another space" in said.json["errors"][0]["message"]
