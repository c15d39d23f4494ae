"""The verb about samples of several lengths, as scripts call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Said

Cli = Callable[..., Said]
SMALL = "name: small\nwidth: 8\nnodes:\n  - {use: short_conv}\n  - {use: mlp}\n"


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return str(file)


def test_ways_to_make_batches_are_compared(cli: Cli, small: str) -> None:
    varied = 'task_params={"length": 16, "min_length": 2}'
    said = cli(
        "buckets", small, "--task", "parity", "--set", varied, "--batch", "4",
        "--buckets", "3,1", "--rounds", "3", "--seconds", "0", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    found = said.json
    plain, one, three = found["rows"]
    assert [row["buckets"] for row in found["rows"]] == [0, 1, 3] and found["steps"] == 3
    assert plain["lengths"] == [16] * 3 and plain["positions"] == 3 * 4 * 16
    assert plain["own_positions"] == three["own_positions"] < three["positions"]
    assert plain["padding_share"] > one["padding_share"] > three["padding_share"] > 0
    for row in found["rows"]:
        for name in ("peak_bytes", "mean_bytes"):
            assert row[name]["predicted"] == pytest.approx(row[name]["measured"], rel=0.03)
        assert row["step_ms"]["n"] == row["ratio"]["n"] == 3
    assert plain["mean_bytes"]["measured"] > three["mean_bytes"]["measured"]
    assert found["fastest"] in (0, 1, 3) and found["longest"] == 16


def test_a_table_without_measuring(cli: Cli, small: str) -> None:
    said = cli("buckets", small, "--task", "listops", "--no-measure", "--buckets", "2")
    assert said.code == 0 and "padded to the longest" in said.out and "train with" not in said.out
    assert "as if no position were padding" in said.err


def test_what_cannot_be_sorted_is_told(cli: Cli, small: str) -> None:
    for options, path in (
        (("--task", "parity"), "buckets"),
        (("--task", "listops", "--buckets", "two"), "buckets"),
        (("--task", "listops", "--buckets", "0,2"), "buckets"),
        (("--task", "listops", "--buckets", "2", "--steps", "1"), "steps"),
        ((), "task"),
    ):
        said = cli("buckets", small, *options, "--json")
        assert said.code == 2 and said.json["errors"][0]["path"] == path, options
