"""The range test as a run: what it reads from the record, what it leaves in the folder, and how it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybridlab.errors import RunError
from hybridlab.runs.context import Stopped
from hybridlab.views.rate_curve import rate_info, rate_plot
from hybridlab.workflows import rates
from tests.workflows.test_profile_run import DESIGN, TRAINING, Context


def spec(**asked: Any) -> dict[str, Any]:
    return {"architecture": DESIGN, "training": TRAINING, "lr_find": {"steps": 20, **asked}}


def test_the_curve_is_left_behind_and_drawn(tmp_path: Path) -> None:
    context = Context(tmp_path / "run", spec(highest=1))
    result = rates.run(context)  # type: ignore[arg-type]
    assert context.told[0] == (0, 40) and context.told[-1] == (40, 40)
    found = json.loads((tmp_path / "run" / rates.FILE).read_text())
    assert found["rates"][-1] == pytest.approx(1) and len(found["losses"]) == 20
    assert result["suggestion"] == found["suggestion"] and "losses" not in result
    info = rate_info(found)
    assert list(info.table()["loss"]) == found["losses"]
    drawn = rate_plot(info)
    assert drawn.layout.xaxis.type == "log" and "nats" in drawn.layout.yaxis.title.text
    low, high = drawn.layout.yaxis.range
    assert low < min(found["losses"]) and high > max(found["control"][:1])
    none = rate_plot(rate_info({**found, "suggestion": None, "steepest": None}))
    assert "No rate" in none.layout.title.text and not none.layout.shapes


def test_it_stops_at_the_next_step(tmp_path: Path) -> None:
    context = Context(tmp_path / "run", spec(), stop_after=4)
    with pytest.raises(Stopped):
        rates.run(context)  # type: ignore[arg-type]
    assert len(context.told) == 4
    assert not (tmp_path / "run" / rates.FILE).exists()


@pytest.mark.parametrize(
    "broken", [{}, {"architecture": DESIGN}, spec(steps="many"), spec(unknown=1)]
)
def test_a_record_that_is_not_one_is_told(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="range of rates"):
        rates.run(Context(tmp_path / "run", broken))  # type: ignore[arg-type]
