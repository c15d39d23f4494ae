"""The verb that measures, as scripts call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Said

pytestmark = pytest.mark.usefixtures("only_new_garbage")
Cli = Callable[..., Said]


def test_a_preset_is_profiled(cli: Cli, tmp_path: Path) -> None:
    said = cli(
        "profile", "lstm_attention_mini", "--task", "mqar", "--steps", "2", "--batch", "4",
        "--output", str(tmp_path / "out"), "--by-input", "--lengths", "8,16", "--batches", "2", "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert {"attributed", "peak_bytes", "step_ms", "components"} <= set(found)
    assert found["peak_bytes"]["predicted"] > 0 and found["step_ms"]["predicted"] > 0
    assert 0.8 < found["attributed"] <= 1
    assert {"lstm", "attention"} <= {item["path"] for item in found["components"]}
    assert (tmp_path / "out" / "measured" / "ops.parquet").is_file()
    by_input = found["by_input"]
    assert by_input["classes"][0]["ms"] > 0
    assert {"lstm", "attention"} <= {row["component"] for row in by_input["spread"]}
    assert (tmp_path / "out" / "report" / "class_spread.parquet").is_file()
    assert (tmp_path / "out" / "report" / "roofline.parquet").is_file()
    sizes = found["by_size"]["sizes"]
    assert [(row["length"], row["batch"]) for row in sizes] == [(8, 2), (16, 2)]
    assert (tmp_path / "out" / "report" / "size_sizes.parquet").is_file()
    assert found["energy"]["joules"] is None or found["energy"]["joules_per_step"] > 0
    assert found["energy"]["joules"] is not None or found["energy"]["not_measured"]
    (first, *_) = found["findings"]
    assert {"sentence", "share", "severity", "components", "view", "page", "evidence"} == set(first)
    written = json.loads((tmp_path / "out" / "profile.json").read_text(encoding="utf-8"))
    assert {name: found[name] for name in written} == written, "what a page reads"


def steady(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that are no times: work, bytes, and everything predicted.

    They are the same in a notebook and on the page: ``tests/app/pages/test_profile_agrees.py``.
    """
    counted = (
        "path",
        "operators",
        "flops",
        "bytes_read",
        "bytes_written",
        "saved_bytes",
        "predicted_ms",
    )
    return {
        "components": [{name: one[name] for name in counted} for one in figures["components"]],
        "peak_bytes": figures["peak_bytes"],
        "step_ms": figures["step_ms"]["predicted"],
        "notes": figures["notes"],
    }


def test_what_is_wrong_is_told(cli: Cli) -> None:
    said = cli("profile", "lstm_mini", "--task", "mqar", "--steps", "0", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "steps"
    said = cli("profile", "lstm_mini", "--task", "nothing", "--json")
    assert said.code == 2 and "unknown task" in said.json["errors"][0]["message"]
    said = cli("profile", "lstm_mini", "--task", "mqar", "--lengths", "8,x", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "--lengths"
    said = cli("profile", "lstm_mini", "--json")
    assert said.code == 2
