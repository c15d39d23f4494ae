"""The verb that fuses, as scripts call it; what is kept depends on the machine, so that is not asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.planning.fusion.record import Fusion
from tests.cli.conftest import Said

Cli = Callable[..., Said]


@pytest.mark.parametrize("what", ["inference", "training"])
def test_a_preset_is_fused_where_that_is_faster(cli: Cli, tmp_path: Path, what: str) -> None:
    file = tmp_path / "out" / "fusion.json"
    said = cli(
        "fuse", "falcon_h1_mini", "--task", "mqar", "--batch", "1", "--rounds", "7",
        "--for", what, "--output", str(file), "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    names = [one["name"] for one in found["judged"]]
    assert any("mamba2.project_in" in name and "attention.project_in" in name for name in names)
    assert any("folded into" in name for name in names) is (what == "inference")
    assert all(one["error"] <= found["tolerance"] for one in found["judged"])
    assert any("queries and keys by one table" in name for name in names)
    assert found["applied"] is any(one["kept"] for one in found["judged"])
    assert found["applied"] is not Fusion.read(found["fusion"]).empty
    if found["applied"]:
        assert found["ratio"]["high"] < 1
        assert found["fused"]["operators"] < found["plain"]["operators"]
    else:
        assert found["fused"] == found["plain"] and found["why"]
    assert Fusion.load(file).as_dict() == found["fusion"]


def test_the_table_says_what_was_tried(cli: Cli) -> None:
    said = cli("fuse", "attention_mini", "--task", "mqar", "--batch", "1", "--rounds", "7")
    assert said.code == 0
    assert "as one product" in said.out and "verdict" in said.out and "operators" in said.out


def test_what_cannot_be_fused_is_told(cli: Cli) -> None:
    said = cli("fuse", "attention_mini", "--task", "nothing", "--json")
    assert said.code == 2 and said.json["errors"]
    assert cli("fuse", "attention_mini", "--task", "mqar", "--rounds", "1").code == 2
