"""Verbs about data of one's own: a file becomes a task, and what is wrong with it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.tasks.registry import task
from tests.cli.conftest import Said

Cli = Callable[..., Said]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "trees.csv"
    rows = [f"{i},{i % 7},{i * 3 % 11},{('oak', 'ash')[i % 2]}" for i in range(80)]
    path.write_text("\n".join(["id,width,height,species", *rows]))
    return path


def test_a_file_becomes_a_task(cli: Cli, trees: Path, home: Path) -> None:
    said = cli("data", "add", str(trees), "--json")
    assert said.code == 0, said.err
    made = said.json
    assert made["task"] == "own_data" and made["classes"] == ["ash", "oak"]
    assert made["schema"]["inputs"] == ["width", "height"] and "Left out: id" in said.err
    assert task("own_data", data=made["id"]).train_batch(0, 4, 0).inputs.shape == (4, 2, 1)
    assert [one["id"] for one in cli("data", "list", "--json").json] == [made["id"]]
    shown = cli("data", "list").out
    assert made["id"] in shown and "trees.csv" in shown
    assert f"task_params.data={made['id']}" in cli("data", "add", str(trees)).out


def test_it_can_be_trained_on_as_it_is_told(cli: Cli, trees: Path) -> None:
    made = cli("data", "add", str(trees), "--json").json
    wrong = cli(
        *("train", "lstm_mini", "--task", "own_data", "--json"),
        *("--set", "task_params.data=d0000000000000000"),
    )
    assert wrong.code == 2 and "hybridlab data list" in wrong.json["errors"][0]["expected"]
    done = cli(
        *("train", "lstm_mini", "--task", "own_data", "--steps", "2", "--json"),
        *("--set", f"task_params.data={made['id']}"),
    )
    assert done.code == 0, done.err
    assert done.json["state"] == "DONE" and "test_accuracy" in done.json["metrics"]
    gone = cli("data", "remove", made["id"], "--json")
    assert gone.json == {"removed": made["id"], "runs": [done.json["run"]]}
    assert cli("data", "list", "--json").json == []
    again = cli("data", "remove", made["id"])
    assert again.code == 2 and "hybridlab data list" in again.err


def test_options_correct_the_guess_before_anything_is_kept(
    cli: Cli, trees: Path, home: Path
) -> None:
    said = cli("data", "add", str(trees), "--dry-run", "--json")
    assert said.json["schema"]["label"] == "species" and said.json["rows"] == 80
    assert not (home / "data").exists()
    assert "species" in cli("data", "add", str(trees), "--dry-run").out
    options = ("--label", "width", "--input", "height", "--input", "id")
    made = cli("data", "add", str(trees), *options, "--json").json
    assert made["schema"]["inputs"] == ["height", "id"] and len(made["classes"]) == 7
    text = cli("data", "add", str(trees), "--as", "text", "--json")
    assert text.code == 2 and "too short a text" in text.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.csv",), "cannot be read: no such file"),
        (("{trees}", "--label", "spezies"), "is not in the file"),
        (("{trees}", "--as", "image"), "not one of the choices"),
        (("{folder}",), "cannot be read: is a directory"),
    ],
)
def test_what_is_wrong_is_said(
    cli: Cli, trees: Path, arguments: tuple[str, ...], words: str
) -> None:
    filled = [a.format(trees=trees, folder=trees.parent) for a in arguments]
    said = cli("data", "add", *filled, "--json")
    assert said.code == 2
    assert words in said.json["errors"][0]["message"]


def test_the_group_tells_its_verbs(cli: Cli) -> None:
    assert cli("data", "--json").json == {"verbs": ["add", "list", "remove"]}
    assert "add" in cli("data").out
    assert cli("data", "list", "--json").json == []


def test_a_file_of_numbers_becomes_a_task_with_a_unit(cli: Cli, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "fish.csv"
    rows = [f"{i % 7},{i * 3 % 11},{i * 1.5}" for i in range(80)]
    path.write_text("\n".join(["long,high,weight", *rows]))
    said = cli("data", "add", str(path), "--label", "weight", "--unit", "g", "--json")
    assert said.code == 0, said.err
    assert (said.json["task"], said.json["schema"]["unit"]) == ("own_numbers", "g")
    assert "numbers in g" in cli("data", "list").out
    assert (
        f"--task own_numbers --set task_params.data={said.json['id']}"
        in cli("data", "add", str(path), "--label", "weight", "--unit", "g").out
    )
    said = cli("data", "add", str(path), "--label", "weight", "--answers", "ranks", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "answers"
