"""The Memory page plans the step as it will be trained: with the fusion and the tuning of the training's settings."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.record import Figures, Plan
from hybridlab.planning.tuning.record import Tuning
from hybridlab.ui import predictions
from hybridlab.ui.memory.measured import measured_plans
from hybridlab.ui.memory.trained import as_trained
from hybridlab.ui.memory.work import Work
from tests.app.stepped import BATCH, PRESET, TEXT, TRAINING, fingerprint, left_behind

MAPS = (("root.attention.body.project_in",),)


def fused(**other: Any) -> dict[str, Any]:
    given = {"fingerprint": fingerprint(), "training": True, "products": MAPS}
    return Fusion(**{**given, **other}).as_dict()


def trained(better: dict[str, Any], **more: Any) -> Any:
    task = predictions.task("parity")
    assert task is not None
    return as_trained(
        Work(TEXT, PRESET, task, {"task": "parity", **TRAINING, **more}, better=better)
    )


def test_what_can_be_planned_is_and_the_rest_is_left_out_for_a_reason() -> None:
    tuning = Tuning(fingerprint=fingerprint(), training=True).as_dict()
    found = trained({"fusion": fused(), "tuning": tuning})
    assert found.names == ("fusion", "tuning") and not found.left_out
    assert found.work.settings["fusion"] == fused() and found.work.settings["batch"] == BATCH

    found = trained({"fusion": fused(), "precisions": {"a": 1}, "regions": {"a": 1}})
    assert found.names == ("fusion",) and set(found.left_out) == {"precisions", "regions"}
    assert not {"precisions", "regions"} & set(found.work.settings)


@pytest.mark.parametrize(
    ("fusion", "more", "why"),
    [
        ({"training": False}, {}, "made for inference"),
        ({"fingerprint": "x"}, {}, "another architecture"),
        ({"products": [["a.body.q", "b.body.k"]]}, {}, "maps of several components"),
        ({}, {"stages": [{"name": "a", "until": 2}, {"name": "b"}]}, "take out fusion, or stages"),
    ],
)
def test_a_fusion_that_does_not_fit_is_left_out(
    fusion: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    found = trained({"fusion": fused(**fusion)}, **more)
    assert why in found.left_out["fusion"] and "fusion" not in found.work.settings
    assert trained({"fusion": "nonsense"}).left_out == {"fusion": "cannot be read"}


def test_the_page_plans_measures_and_offers_the_step_with_its_fusion(
    planned: Any, runs: Any
) -> None:
    words = "Planned with the fusion as set on the Train page"
    assert words not in planned.words()
    settings = planned.at.session_state["hybridlab"]["settings.parity"]
    settings["fusion"] = fused()
    planned.open("5_Memory")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert words in planned.words() and not planned.at.error
    planned.press("memory.measure")
    (run,) = runs.store.list(kind="plan")
    assert Fusion.read(run.spec["training"]["fusion"]).products == MAPS
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "Planned and measured with the fusion" in planned.words()

    del planned.at.query_params["run"]
    planned.open("5_Memory")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    (toggle,) = [one for one in planned.at.toggle if "as it will be trained" in one.label]
    planned.give(toggle, False)
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "Planned is the step as designed, without the fusion" in planned.words()
    planned.press("memory.measure")
    newest = runs.store.list(kind="plan")[0]
    assert newest.id != run.id and not newest.spec["training"]["fusion"]

    del planned.at.query_params["run"]
    planned.at.session_state["hybridlab"]["settings.parity"]["fusion"] = fused(fingerprint="x")
    planned.open("5_Memory")
    planned.until(lambda at: len(at.get("plotly_chart")) == 2)
    assert "fusion (was made for another architecture)" in planned.words().replace("\\", "")


def test_what_was_measured_of_another_step_is_not_shown_of_this_one(runs: Any) -> None:
    figures = Figures(peak_bytes=9, step_ms=1.0)
    plan = Plan(
        fingerprint="x", components=("a",), batch=4, length=8, predicted=figures, plain=figures
    )
    run = runs.queued("fused", kind="plan", fusion=fused())
    content = {"plan": plan.model_copy(update={"measured": figures}).as_dict()}
    left_behind(runs, run, "plan.json", {**content, "plain_measured": figures.model_dump()})

    class Found:
        plain = plan

    assert [one.run for one in measured_plans(Found(), {"fusion": fused()})] == [run.id]  # type: ignore[arg-type]
    assert measured_plans(Found(), {}) == []  # type: ignore[arg-type]
