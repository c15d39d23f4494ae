"""The verb about caches, as scripts call it."""

from __future__ import annotations

from collections.abc import Callable

from tests.cli.conftest import Said

Cli = Callable[..., Said]


def test_caches_are_predicted_and_measured(cli: Cli) -> None:
    said = cli(
        "caches", "samba_mini", "--task", "mqar", "--positions", "20,1,3",
        "--requests", "2", "--shared", "32", "--own", "3", "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert found["positions"] == [1, 3, 20]
    assert found["measured_bytes"] == found["predicted_bytes"]
    assert {row["form"] for row in found["components"]} >= {"fills", "constant"}
    assert len(found["resident_bytes"]) == 3 and found["no_step"] == []
    told = found["prefix"]["report"]
    assert (told["hits"], told["saved"], told["positions"]) == (1, 32, 70)


def test_the_table_says_how_caches_go_on(cli: Cli) -> None:
    said = cli("caches", "transformer_mini", "--no-measure", "--positions", "1,4096")
    assert said.code == 0 and "grows" in said.out and "4,096" in said.out
    assert " / " not in said.out.splitlines()[-1]
    said = cli("caches", "mamba2_mini", "--task", "digits_sequence", "--positions", "2")
    assert said.code == 0 and "has no step form" in said.err and "was left out" in said.err


def test_wrong_numbers_are_told(cli: Cli) -> None:
    for wrong in ("1,x", "", "0", "1,9999999"):
        said = cli("caches", "mamba2_mini", "--positions", wrong, "--json")
        assert said.code == 2 and said.json["errors"][0]["path"] == "positions"
    said = cli("caches", "mamba2_mini", "--keep", "much", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "keep"
