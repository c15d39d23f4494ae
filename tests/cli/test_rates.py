"""The verb that looks for a learning rate, as scripts call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Said

Cli = Callable[..., Said]
SETTINGS = """
task: parity
task_params: {length: 8, longer: 12}
batch: 8
groups:
  - {name: mixers, kind: token_mixer, optimiser: lion}
"""


def test_a_rate_is_found_for_all_and_for_a_group(cli: Cli, tmp_path: Path) -> None:
    design, settings = tmp_path / "small.yaml", tmp_path / "settings.yaml"
    design.write_text("name: small\nwidth: 8\nnodes:\n  - {use: min_gru}\n")
    settings.write_text(SETTINGS)
    given = (str(design), "--training", str(settings), "--steps", "30", "--device", "cpu")
    said = cli("lr-find", *given, "--group", "mixers", "--highest", "1", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["group"] == "mixers" and found["rates"][0] == 1e-6
    length = len(found["rates"])
    assert {len(found[name]) for name in ("losses", "control", "smoothed")} == {length}
    plain = cli("lr-find", *given)
    assert plain.code == 0 and "loss at rate 0" in plain.out
    assert "suggest" in plain.out
    wrong = cli("lr-find", *given, "--group", "nobody", "--json")
    assert wrong.code == 2 and wrong.json["errors"][0]["expected"] == "mixers"
    assert cli("lr-find", str(design), "--json").code == 2
