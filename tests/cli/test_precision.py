"""The verb that mixes formats, as scripts call it; what is kept depends on the machine, so that is not asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.planning import turns
from hybridlab.planning.precision.record import Precisions
from tests.cli.conftest import Said

Cli = Callable[..., Said]
DESIGN = "name: small\nwidth: 16\nnodes:\n  - {id: a, use: attention, heads: 2}\n"


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small design; every step of it takes 1 ms, as nothing here asks for times."""
    monkeypatch.setattr(turns, "run_ms", lambda step: 1.0)
    (tmp_path / "small.yaml").write_text(DESIGN)
    return str(tmp_path / "small.yaml")


def test_what_keeps_less_is_written_and_told(cli: Cli, design: str, tmp_path: Path) -> None:
    file = tmp_path / "out" / "precisions.json"
    said = cli(
        "precision", design, "--task", "parity", "--batch", "32", "--rounds", "7",
        "--for", "memory", "--dtype", "bfloat16", "--output", str(file), "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert found["applied"] is True and found["memory"] is True
    assert found["error"] <= found["tolerance"] == 0.05
    assert found["loss_error"] <= found["loss_tolerance"] == 0.01
    assert found["saved_bytes"] < found["plain_saved_bytes"]
    rows = {one["component"]: one for one in found["judged"]}
    assert rows["a"]["kept"] and rows["a"]["saved_bytes"] < rows["a"]["plain_saved_bytes"]
    assert Precisions.load(file).as_dict() == found["precisions"]
    assert found["precisions"]["formats"]["a"] == "bfloat16"


def test_the_table_says_what_each_loses_and_that_nothing_is_faster(cli: Cli, design: str) -> None:
    said = cli("precision", design, "--task", "parity", "--batch", "2", "--rounds", "7")
    assert said.code == 0
    assert "output error" in said.out and "is not measured faster" in said.out
    assert "has nothing that bfloat16 changes" in said.out
    assert "no component is measured faster in it" in said.out


def test_bad_input_is_told_in_sentences(cli: Cli, design: str) -> None:
    for options, path in (
        (("--task", "nothing"), "task"),
        (("--task", "parity", "--tolerance", "0"), "tolerance"),
        (("--task", "parity", "--dtype", "float32"), "format"),
        (("--task", "parity", "--dtype", "float16", "--for", "training"), "format"),
        (("--task", "parity", "--precision", "int3"), "precision"),
    ):
        said = cli("precision", design, *options, "--json")
        assert said.code == 2 and said.json["errors"][0]["path"] == path, options
    assert cli("precision", design, "--task", "parity", "--dtype", "int8").code == 2
