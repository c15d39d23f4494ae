"""`hybridlab demo` on settings cut down to seconds: the real runs, told from their beginning to their end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hybridlab.workflows import demo
from tests.cli.conftest import Said

Cli = Callable[..., Said]


@pytest.mark.slow
def test_six_runs_are_followed_to_their_end(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in demo._OF_TASK.values():
        monkeypatch.setitem(settings, "steps", 2)
    monkeypatch.setitem(demo._COMMON, "batch", 4)
    said = cli("demo", "--seed", "1", "--json")
    assert said.code == 0, said.err
    assert set(said.json["tasks"]) == {"parity", "mqar"}
    for accuracies in said.json["tasks"].values():
        assert set(accuracies) == {"hybrid", "lstm", "attention"}
        assert all(0 <= value <= 1 for value in accuracies.values())
    assert said.json["done"] is True and said.json["active"] is False
    for captions in said.json["captions"].values():
        assert all("budget of 2 steps reached" in caption for caption in captions.values())
    ends = [line for line in said.err.splitlines() if "budget of 2 steps reached" in line]
    assert len(ends) == 6
    assert len(cli("runs", "--json").json) == 6


def test_a_seed_is_a_whole_number_from_zero(cli: Cli) -> None:
    assert cli("demo", "--seed", "-1", "--json").code == 2
    assert cli("runs", "--json").json == []
