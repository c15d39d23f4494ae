"""Files that verbs write: told before the work where they cannot be, whole or not at all, options never passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hybridlab.writing
from hybridlab.runs.home import home_id
from hybridlab.runs.store import open_store
from tests.cli.conftest import Said

Cli = Callable[..., Said]
MEASURED = (
    ("fuse", "hybridlab.workflows.fusion.fuse_training"),
    ("fuse --regions", "hybridlab.workflows.regions.regions_training"),
    ("tune", "hybridlab.workflows.tuning.tune_training"),
    ("layout", "hybridlab.workflows.tuning.tune_training"),
    ("precision", "hybridlab.workflows.precision.measure_precisions"),
    ("plan --budget 50%", "hybridlab.workflows.plan.plan_training"),
    ("profile", "hybridlab.workflows.profile.profile_training"),
)


@pytest.mark.parametrize(("verb", "measures"), MEASURED)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, measures: str
) -> None:
    def measured(*given: object, **more: object) -> object:
        raise AssertionError("nothing should be measured")

    monkeypatch.setattr(measures, measured)
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    name, *options = verb.split()
    said = cli(
        name, "attention_mini", *options, "--task", "mqar",
        "--output", str(tmp_path / "file" / "out.json"), "--json",
    )  # fmt: skip
    assert said.code == 2
    (problem,) = said.json["errors"]
    assert str(tmp_path / "file") in problem["path"]
    assert "cannot be written" in problem["message"]


def test_a_folder_is_no_file_to_write(cli: Cli, tmp_path: Path) -> None:
    said = cli(
        "plan", "attention_mini", "--task", "mqar", "--budget", "50%",
        "--output", str(tmp_path), "--json",
    )  # fmt: skip
    assert said.code == 2 and "is a directory" in said.json["errors"][0]["message"]


def test_the_file_before_stays_where_writing_fails(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "small.yaml"
    assert cli("shrink", "lstm_mini", "--output", str(file)).code == 0
    before = file.read_text(encoding="utf-8")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hybridlab.writing.os, "fsync", full)
    said = cli("shrink", "lstm_mini", "--output", str(file), "--width", "32", "--json")
    assert said.code == 2 and "no space left" in said.json["errors"][0]["message"]
    assert file.read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.glob("*small*")] == ["small.yaml"]


def test_an_option_that_would_be_passed_over_is_refused(cli: Cli) -> None:
    said = cli("fuse", "attention_mini", "--task", "mqar", "--most", "3", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "--most"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory",
        ),
        (MemoryError(), "not enough memory"),
        (OSError(28, "No space left on device", "/there"), "the disk is full"),
    ],
)
def test_a_machine_without_room_is_no_defect(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fails(*given: object, **more: object) -> object:
        raise error

    monkeypatch.setattr("hybridlab.trace.predict.predict", fails)
    said = cli("show", "lstm_mini", "--json")
    assert said.code == 1
    (problem,) = said.json["errors"]
    assert words in problem["message"] and "defect" not in said.err


def test_a_setting_within_what_is_no_mapping_is_told(cli: Cli) -> None:
    said = cli(
        "lr-find", "lstm_mini", "--task", "mqar",
        "--set", "task_params=3", "--set", "task_params.length=4", "--json",
    )  # fmt: skip
    assert said.code == 2 and said.json["errors"][0]["path"] == "--set task_params"


def test_a_name_that_cannot_be_one_is_told(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "made.yaml"
    said = cli("import", "megatron", "M*", "--name", "", "--output", str(file), "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "name"
    assert not file.exists()


def test_a_prefix_cache_that_was_not_tried_is_told(cli: Cli) -> None:
    asked = ("caches", "lstm_mini", "--task", "mqar", "--positions", "4", "--requests", "2")
    said = cli(*asked, "--no-measure", "--json")
    assert said.code == 0 and said.json["prefix"] is None
    assert "no prefix cache was tried: --no-measure" in said.err
    said = cli(*asked, "--shared", "32", "--own", "1", "--json")
    assert said.json["prefix"] and "no prefix cache" not in said.err


def test_a_zip_that_fails_leaves_the_one_before(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_store().create("train", "small", {}, home=home_id())
    target = tmp_path / "out.zip"
    assert cli("runs", "export", run.id, "--output", str(target)).code == 0
    before = target.read_bytes()

    def full(run_id: str, draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybridlab.runs.folder.archive", full)
    said = cli("runs", "export", run.id, "--output", str(target), "--json")
    assert said.code == 2 and "no space left" in said.json["errors"][0]["message"]
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*out.zip*")] == ["out.zip"]


def test_what_is_stopped_says_so_in_json_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*given: object, **more: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("hybridlab.trace.predict.predict", stops)
    said = cli("show", "lstm_mini", "--json")
    assert said.code == 130 and said.json["errors"][0]["message"] == "stopped"
    said = cli("show", "lstm_mini")
    assert said.code == 130 and said.out == "" and said.err == "stopped\n"
