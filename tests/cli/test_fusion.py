"""The verb that fuses, as scripts call it; what is kept depends on the machine, so that is not asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.regions.record import Regions
from hybridlab.planning.regions.report import Break, Judged, Kernels, NotTried, RegionsReport
from hybridlab.planning.turns import Work
from hybridlab.profiling.medians import Median
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


def test_regions_are_told_and_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = Median(0.8, 0.7, 0.9, 21, 0.97)
    after, before = Kernels(kernels=9, moved_bytes=2048), Kernels(kernels=40, moved_bytes=4096)
    kept = Judged(
        name="swiglu",
        paths=("root.a", "root.b"),
        kept=True,
        why="is faster",
        plain=before,
        chained_bytes=2048,
        saved_bytes=1024,
        compiled=after,
        graphs=2,
        breaks=(Break(why="a value is asked for", times=3),),
        compile_s=20.0,
        error=1e-7,
        ratio=middle,
    )
    record = Regions(
        fingerprint="x", device="cpu", batch=1, paths=kept.paths, shapes=(((1, 4, 8),),) * 2
    )
    report = RegionsReport(
        regions=record,
        why="is faster",
        judged=(kept,),
        refused=(NotTried(name="lstm", paths=("root.c",), why="has no compiler"),),
        error=1e-7,
        tolerance=1e-4,
        plain=Work(50, 9000, 100),
        compiled=Work(20, 5000, 90),
        plain_ms=middle,
        compiled_ms=middle,
        ratio=middle,
        others_cores=1.0,
    )
    asked: list[dict[str, object]] = []

    def measured(architecture: object, settings: object, **more: object) -> RegionsReport:
        asked.append(more)
        return report

    monkeypatch.setattr("hybridlab.workflows.regions.regions_training", measured)
    file = tmp_path / "out" / "regions.json"
    arguments = ("fuse", "attention_mini", "--task", "mqar", "--regions", "--most", "3")
    said = cli(*arguments, "--output", str(file), "--json")
    assert said.code == 0 and RegionsReport.read(said.json) == report
    assert Regions.load(file) == record
    assert asked[0]["most"] == 3 and asked[0]["training"] is False
    said = cli(*arguments)
    assert "40 → 9" in said.out and "kept: is faster" in said.out
    for words in ("in 2 graphs, 3 times: a value is asked for", "lstm (root.c): has no compiler"):
        assert words in said.err
    assert "lower bound" in said.err and "no timings" in said.err
