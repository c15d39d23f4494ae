"""Less memory and less time from a notebook: plans, what fits, what is kept because it is measured better, caches."""

from __future__ import annotations

from pathlib import Path

import pytest

import hybridlab as hl
from hybridlab.notebook_settings import plain_settings
from hybridlab.planning.record import Plan
from hybridlab.training.defaults import prepare

TEXT = """
name: small
width: 16
nodes:
  - id: block
    repeat: 3
    nodes: [{use: gru}, {use: attention, heads: 2}, {use: swiglu}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_plan_is_measured_drawn_and_trained_with(home: Path, tmp_path: Path) -> None:
    found = hl.plan(TEXT, "digits_sequence", "60%", apply=True, batch=4)
    plan = found.plan
    assert plan.recompute and plan.measured is not None
    off = plan.predicted.peak_bytes / plan.measured.peak_bytes - 1
    assert abs(off) <= 0.02 and f"{100 * off:+.2f} % off" in repr(found)
    assert list(found.table.index) == list(plan.components)
    again = found.table["plan"].str.startswith("again")
    assert tuple(found.table.index[again]) == plan.recomputed
    points = found.points
    assert set(points["source"]) == {"predicted", "measured"}
    assert plan.predicted.peak_bytes in set(points["peak_bytes"])
    names = [str(trace.name) for trace in found.plot().data]
    assert "with a plan, measured" in names and "as it is, measured" in names
    assert len(found.timeline().data) > len(found.timeline("peak").data) > 0
    drawn = found._repr_html_()
    assert drawn.startswith("<p>") and "<svg" in drawn and "computed again" in drawn
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    settings = {"steps": 2, "batch": 4, "seed": 1}
    runs = [hl.train(TEXT, "digits_sequence", **settings, **more) for more in ({}, {"plan": found})]
    assert runs[1].run.spec["training"]["plan"]["recompute"]
    assert len({run.run.result["weights_sha256"] for run in runs if run.run.result}) == 1


def test_a_budget_that_no_plan_meets_says_the_least() -> None:
    with pytest.raises(hl.SpecError, match="below what any plan needs"):
        hl.plan(TEXT, "digits_sequence", "1KiB", batch=4)


def test_what_fits_is_a_table_and_a_figure() -> None:
    found = hl.fits(TEXT, "digits_sequence", "8MiB")
    assert "with plans, predicted" in repr(found)
    assert found.table["peak_bytes"].max() <= 8 * 2**20
    assert len(found.plot().data) > 0
    assert repr(hl.fits(TEXT, "digits_sequence", "1KiB")).startswith("not even batch 1 fits")


def test_what_is_chosen_goes_into_a_training() -> None:
    for choose in (hl.fuse, hl.precision, hl.tune):
        found = choose(TEXT, "digits_sequence", training=True, rounds=7, batch=4)
        assert repr(found).startswith(f"{found.setting}: ")
        setting = found.as_setting()
        assert setting["training"] and setting["fingerprint"]
        asked = plain_settings({"task": "digits_sequence", found.setting: found})
        assert getattr(prepare(asked)[1], found.setting) == setting


def test_caches_and_buckets_are_tables_and_figures() -> None:
    kept = hl.caches(TEXT, positions=(4, 8), measure=False)
    assert len(kept.table) > 0 and len(kept.plot().data) > 0
    lengths = hl.buckets(TEXT, "listops", counts=(4,), measure=False, batch=4)
    assert len(lengths.table) == 2 and len(lengths.plot().data) > 0
    with pytest.raises(hl.SpecError, match="several lengths"):
        hl.buckets(TEXT, "digits_sequence")
