"""The verb that tunes, as scripts call it; what is kept depends on the machine, so that is not asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.planning.tuning.record import Tuning
from tests.cli.conftest import Said

Cli = Callable[..., Said]


def test_ways_are_chosen_and_written(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "out" / "tuning.json"
    said = cli(
        "tune", "mamba2_mini", "--task", "mqar", "--batch", "1", "--rounds", "7",
        "--output", str(file), "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert {one["knob"] for one in found["judged"]} == {"chunk", "convolution"}
    assert all(one["kept"] is (one["value"] != one["designed"]) for one in found["judged"])
    assert found["applied"] is bool(found["tuning"]["chunk"] or found["tuning"]["convolution"])
    assert found["why"] and (not found["applied"] or found["ratio"]["high"] < 1)
    assert found["plain_borders"][0]["copied_bytes"] > 0
    assert Tuning.load(file).as_dict() == found["tuning"]


def test_the_table_says_what_was_tried_and_errors_are_told(cli: Cli) -> None:
    said = cli("tune", "transformer_mini", "--task", "mqar", "--batch", "1", "--rounds", "7")
    assert said.code == 0 and "there is nothing to tune" in said.out
    said = cli("tune", "mamba2_mini", "--task", "nothing", "--json")
    assert said.code == 2 and said.json["errors"]


def test_layouts_are_chosen_over_the_graph(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "layout.json"
    said = cli(
        "layout", "striped_hyena_mini", "--task", "mqar", "--batch", "1", "--rounds", "7",
        "--output", str(file), "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert {one["knob"] for one in found["judged"]} == {"convolution", "layout"}
    writers = [one["writer"] for one in found["hand_overs"]]
    assert len(writers) == 9 and "stripe.0.hyena" in writers
    for one in found["hand_overs"]:
        cheapest = min(one["tokens_ms"], one["channels_ms"])
        assert 0 < one[f"{one['layout']}_ms"] == pytest.approx(cheapest)
    assert set(found["tuning"]["hand_over"]) <= set(writers) and not found["tuning"]["chunk"]
    assert Tuning.load(file).as_dict() == found["tuning"]
