"""The figures of a search, from a small study whose points are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hybridlab.search.description import Description
from hybridlab.search.landscape import Objective
from hybridlab.search.record import TrialRow
from hybridlab.search.state import VALUED, StudyState
from hybridlab.views.search_axes import axis_of, written
from hybridlab.views.search_choices import (
    importance_info,
    importance_plot,
    lines_info,
    lines_plot,
    spread_info,
    spread_plot,
)
from hybridlab.views.search_front import front_info, front_plot, front_plot_3d
from hybridlab.views.search_progress import (
    progress_info,
    progress_plot,
    workers_info,
    workers_plot,
)

MIB = 2.0**20
QUALITY = Objective("quality", "maximize")
MEMORY = Objective("peak_bytes", "minimize", "bytes", predicted=True)
TIME = Objective("step_ms", "minimize", "ms", predicted=True)


def trial(number: int, values: tuple[float, ...], **more: Any) -> TrialRow:
    told: dict[str, Any] = {
        "state": "complete" if values else "failed",
        "design": {"width": 64, "mixer_1": "lstm", "mixer_2": "lstm"},
        "reason": "",
        "run": "",
        "worker": "a",
        "home": "",
        "attempts": 1,
        "started": 10.0 + number,
        "ended": 11.0 + number,
        "architecture": "",
    }
    return TrialRow(number=number, values=values, **{**told, **more})


def study(
    rows: list[TrialRow],
    front: tuple[int, ...],
    objectives: tuple[Objective, ...] = (QUALITY, MEMORY),
) -> StudyState:
    choices = [
        {"name": "width", "values": [64, 128]},
        {"name": "mixer_1", "values": ["lstm", "attention"]},
        {"name": "mixer_2", "values": ["lstm", "attention"]},
    ]
    about = Description(1, "", 0.0, {}, "", "random", 0, [], choices, 8, [])
    done = tuple(at for at, row in enumerate(rows) if row.state in VALUED)
    return StudyState("s", about, objectives, 9, tuple(rows), done, front, 0, {})


@pytest.fixture
def small() -> StudyState:
    mixed = {"width": 128, "mixer_1": "attention", "mixer_2": "lstm"}
    rows = [
        trial(0, (0.9, 80 * MIB), design=mixed),
        trial(1, (0.5, 20 * MIB)),
        trial(2, (0.4, 40 * MIB)),
        trial(3, (0.95, 200 * MIB), design=mixed, state="beyond"),
        trial(4, ()),
    ]
    return study(rows, (0, 1))


def test_axes_have_units_and_say_where_values_come_from() -> None:
    axis = axis_of(MEMORY, np.array([20 * MIB, 80 * MIB]))
    assert axis.label == "peak memory, predicted (MiB)" and axis.scale == MIB
    assert axis_of(QUALITY, np.array([0.5])).label == "quality, measured"
    formula = Objective("quality", "maximize", formula=True)
    assert axis_of(formula, np.array([0.5])).label == "quality, by formula"
    assert axis_of(QUALITY, np.array([0.5])).better == "more is better"
    params = Objective("params", "minimize", "parameters", predicted=True)
    assert axis_of(params, np.array([2.5e6])).label == "parameters, predicted (million)"
    assert written(MEMORY, 20 * MIB) == "20 MiB" and written(TIME, 20.0) == "20 ms"


def test_front_groups_its_points_and_marks_better(small: StudyState) -> None:
    info = front_info(small, (1, 0), [(0.97, 10 * MIB)])
    assert [numbers for numbers, _ in info.groups] == [(0, 1), (2,), (3,)]
    assert info.front[1].tolist() == [[80, 0.9], [20, 0.5]]
    assert info.true.tolist() == [[10, 0.97]]
    assert info.title == "2 of 4 trials are beaten by none"
    assert info.table()["kind"].tolist() == ["front", "front", "dominated", "infeasible"]
    plot = front_plot(info, log=(True, False), chosen=1)
    assert plot.layout.xaxis.type == "log" and plot.layout.yaxis.type == "linear"
    assert plot.layout.xaxis.title.text == "peak memory, predicted (MiB) · less is better"
    better = plot.layout.annotations[0]
    assert (better.x, better.y, better.text) == (0.01, 1.0, "↖ better")
    assert better.yanchor == "bottom", "outside, where no point is"
    names = [trace.name for trace in plot.data if trace.name]
    assert names == ["true front", "beyond a limit (1)", "dominated (1)", "front (2)", "chosen"]
    chosen = plot.data[-1]
    assert (chosen.x[0], chosen.y[0]) == (20, 0.5)
    (strip,) = front_plot(info, band=(0, 40 * MIB, 20 * MIB)).layout.shapes
    assert (strip.x0, strip.x1) == (20, 40), "in the axis' unit"
    fewer = front_plot(info, beaten=False, beyond=False)
    assert [trace.name for trace in fewer.data if trace.name] == ["true front", "front (2)"]


def test_front_in_three_dimensions() -> None:
    rows = [trial(0, (0.9, 80 * MIB, 5.0)), trial(1, (0.5, 20 * MIB, 9.0))]
    info = front_info(study(rows, (0, 1), (QUALITY, MEMORY, TIME)), (1, 0, 2))
    plot = front_plot_3d(info, log=(False, False, True), chosen=0)
    assert plot.layout.scene.zaxis.type == "log"
    assert plot.layout.scene.zaxis.title.text == "step time, predicted (ms)"
    better = next(trace for trace in plot.data if trace.name == "better")
    assert (better.x[0], better.y[0], better.z[0]) == (20, 0.9, 5)
    two = front_info(study(rows, (0, 1), (QUALITY, MEMORY, TIME)), (1, 0))
    assert two.title.endswith("in all objectives"), "two axes do not show who beats whom"


def test_progress_is_a_share_of_the_true_front_where_it_is_known(small: StudyState) -> None:
    plain = progress_info(small)
    assert plain.trials[-1] == 4 and plain.hint == ""
    assert progress_plot(plain).data[0].y[-1] == pytest.approx(100)
    known = progress_info(small, (0.0, 100 * MIB), 90 * MIB)
    # 0.9 x (100 - 80) and, below the first, 0.5 x (80 - 20), in MiB
    assert known.covered[-1] == pytest.approx((0.9 * 20 + 0.5 * 60) * MIB)
    assert known.title == "The front covers 53.3% of the true one"
    assert progress_plot(known).data[0].y[-1] == pytest.approx(100 * 48 / 90)
    empty = progress_info(study([], ()))
    assert empty.title == "Nothing is covered yet" and empty.table().empty


def test_workers_have_a_lane_for_each_trial_at_a_time() -> None:
    rows = [
        trial(0, (1.0, 1.0), started=10.0, ended=14.0),
        trial(1, (1.0, 1.0), started=11.0, ended=12.0),
        trial(2, (), started=12.5, ended=None, state="running"),
        trial(3, (1.0, 1.0), worker="b", started=10.5, ended=11.0),
        trial(4, (), started=None, ended=None, state="waiting"),
    ]
    info = workers_info(rows, now=15.0)
    assert info.lanes == ("worker 1, seat 1", "worker 1, seat 2", "worker 2")
    bars = {bar[0]: bar for bar in info.bars}
    assert bars[0][1:] == (0, 0.0, 4.0, "complete")
    assert bars[2][1:] == (1, 2.5, 2.5, "running")
    assert bars[3][1] == 2 and set(bars) == {0, 1, 2, 3}
    assert {trace.name for trace in workers_plot(info).data} == {"with values", "running"}
    assert workers_info([], 0.0).title == "No trial has begun yet"


def test_choices_importance_lines_and_spread(small: StudyState) -> None:
    info = importance_info(small)
    assert set(info.choices) == {"width", "mixer_1", "mixer_2"} and info.choices[-1] == "mixer_2"
    assert info.shares[-1].tolist() == [0, 0], "it never varied"
    assert len(importance_plot(info).data) == 2
    lines = lines_info(small, front_only=True, choices=("width", "mixer_1"))
    assert lines.numbers == (0, 1)
    assert lines.values[:3] == ((1.0, 0.0), (1.0, 0.0), (0.9, 0.5))
    assert lines.words[1] == ("lstm", "attention") and lines.titles[3] == "peak memory (MiB)"
    drawn = lines_plot(lines, "#000000").data[0].dimensions
    assert [one.label for one in drawn] == list(lines.titles)
    assert lines_info(small, front_only=False, choices=()).front == (True, True, False, False)
    spread = spread_info(small, 1)
    assert spread.trials == (1, 0) and spread.components == ("attention", "lstm")
    assert spread.shares == ((0.0, 1.0), (0.5, 0.5)) and spread.at[0] == "20 MiB"
    assert len(spread_plot(spread).data) == 2
