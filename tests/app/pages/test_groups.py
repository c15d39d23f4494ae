"""The Train page's groups of weights: suggested, edited, checked before the start."""

from __future__ import annotations

import json
from typing import Any

from hybridlab.architecture import library
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.training.rate_curve import rate_curve
from hybridlab.ui.train.groups import _COLUMNS, _VIEWS, _frame, _taken
from tests.app.held import in_session, put_in_session


def settings(visitor) -> list[dict[str, object]]:
    kept = in_session(visitor.at, "settings.parity")
    return list(kept.get("groups", ()))


def test_a_suggestion_becomes_a_group_and_goes_into_the_run(opened, runs) -> None:
    opened.press("train.groups.mixers")
    assert settings(opened) == [{"name": "mixers", "kind": "token_mixer", "optimiser": "muon"}]
    assert opened.button("train.groups.mixers").disabled
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    (run,) = runs.store.list(kind="train")
    (group,) = run.spec["training"]["groups"]
    assert (group["name"], group["optimiser"]) == ("mixers", "muon")


def test_rows_are_groups_with_depth_betas_and_momentum() -> None:
    now = [
        {"name": "deep", "depth": [0.5, 1.0], "betas": [0.8, 0.9]},
        {"name": "plain", "optimiser": "sgd", "momentum": 0.5, "warmup_steps": 3},
    ]
    frame = _frame(now)
    assert _taken(frame) == now
    frame.loc[0, ["from", "beta2"]] = 0.0, None
    assert _taken(frame)[0] == {"name": "deep", "betas": [0.8, 0.95]}
    frame.loc[1, "beta1"] = 0.7
    assert _taken(frame)[1]["betas"] == [0.7, 0.95]


def test_columns_are_shown_view_by_view_and_what_is_used_is_marked(opened) -> None:
    def columns() -> list[str]:
        (table,) = [t for t in opened.at.dataframe if "clip_norm" in t.value.columns]
        return list(table.proto.column_order)

    assert columns()[0] == "name" and "rate" in columns()
    assert "from" not in columns() and "momentum" not in columns()
    opened.give(opened.at.button_group(key="train.groups.columns"), "Depth and averages")
    assert columns() == ["name", "from", "to", "beta1", "beta2", "momentum"]
    put_in_session(opened.at, "settings.parity", {"groups": [{"name": "a", "depth": [0, 0.5]}]})
    opened.at.run()
    (table,) = [t for t in opened.at.dataframe if "clip_norm" in t.value.columns]
    assert list(table.value["to"]) == [0.5]
    marked = [
        one.content for one in opened.at.button_group(key="train.groups.columns").proto.options
    ]
    assert [text.endswith("•") for text in marked] == [False, False, True]
    assert {name for view in _VIEWS.values() for name in view} == set(_COLUMNS)


def test_a_group_that_fits_nothing_is_told_before_the_start(opened, runs) -> None:
    opened.press("train.groups.rates")
    opened.until(lambda at: any("fits no weights" in error.value for error in at.error))
    assert opened.button("Start training").disabled


def test_the_memory_of_a_groups_optimiser_is_foretold(opened) -> None:
    opened.press("train.groups.mixers")
    opened.until(lambda at: "Optimisers remember, predicted: mixers" in opened.words())
    assert "(muon), others" in opened.words().replace("\\", "")


TEXT = library.find("lstm_attention_mini").read_text(encoding="utf-8")
FOUND = rate_curve(
    "",
    [10 ** (place / 10 - 5) for place in range(40)],
    [2.0] * 10 + [2.0 - place / 10 for place in range(15)] + [0.6 + place for place in range(15)],
    [2.0] * 40,
    diverged=True,
).as_dict()


def finished(runs, group: str = "", **more: Any) -> Run:
    """Put a finished range test into the store and its curve into the folder."""
    run = runs.running("a test", text=TEXT, kind="lr_find", **more)
    found = {**FOUND, "group": group}
    (run_folder(run.id) / "rates.json").write_text(json.dumps(found))
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    return run


def test_a_rate_is_looked_for_in_the_background(opened, runs) -> None:
    opened.press("train.groups.mixers")
    (box,) = [box for box in opened.at.selectbox if box.label == "Rate of"]
    opened.give(box, "mixers")
    opened.press("rates.start")
    (run,) = runs.store.list(kind="lr_find")
    assert run.spec["lr_find"] == {"group": "mixers"}
    assert [group["name"] for group in run.spec["training"]["groups"]] == ["mixers"]
    opened.press(f"rates.cancel.{run.id}")
    assert runs.store.get(run.id).state is RunState.CANCELLED
    opened.until(lambda at: "before it had a curve" in opened.words())


def test_a_found_rate_is_drawn_and_goes_into_the_settings(opened, runs) -> None:
    run = finished(runs)
    opened.open("2_Train", run=run.id)
    assert "lies in the middle" in opened.words().replace("\\", "")
    opened.press(f"rates.use.{run.id}")
    assert in_session(opened.at, "settings.parity")["learning_rate"] == FOUND["suggestion"]
    assert "This rate is in the settings" in opened.words()


def test_a_groups_rate_goes_into_its_row_and_a_group_that_is_gone_is_told(opened, runs) -> None:
    opened.press("train.groups.lion")
    run = finished(runs, "lion")
    opened.open("2_Train", run=run.id)
    opened.press(f"rates.use.{run.id}")
    (row,) = settings(opened)
    assert row["learning_rate"] == FOUND["suggestion"] and "rate" not in row
    gone = finished(runs, "gone")
    opened.open("2_Train", run=gone.id)
    opened.press(f"rates.use.{gone.id}")
    assert any("there is no group" in error.value for error in opened.at.error)


def test_a_test_that_failed_says_why(visitor, runs) -> None:
    run = runs.ended("small", RunState.FAILED, error="no memory is left", kind="lr_find", text=TEXT)
    visitor.open("2_Train", run=run.id)
    assert any("no memory is left" in error.value for error in visitor.at.error)
