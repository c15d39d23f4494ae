"""The pictures of tasks' gradients hold what was measured."""

from __future__ import annotations

import pytest

from hybridlab.training.task_cosines import conflicts, cosines_of
from hybridlab.views.task_cosines import matrix_info, matrix_plot, pairs_info, pairs_plot

TASKS = ("digit", "odd", "strokes")
FOUND = cosines_of(
    TASKS,
    {
        "gradient_cosine/*/digit~odd": ([10, 20], [0.5, -0.25]),
        "gradient_cosine/*/digit~strokes": ([10, 20], [0.1, None]),
        "gradient_cosine/stage.mix/digit~odd": ([20], [-0.5]),
        "gradient_cosine/in/digit~odd": ([20], [0.25]),
        "gradient_cosine/in/other~odd": ([20], [0.9]),
        "loss": ([1], [3.0]),
    },
)


def test_the_matrix_is_symmetric_with_gaps_where_nothing_was_measured() -> None:
    info = matrix_info(FOUND)
    assert (info.step, info.address) == (20, "*")
    assert info.values == ((1.0, -0.25, None), (-0.25, 1.0, None), (None, None, 1.0))
    assert info.worst == ("digit", "odd", -0.25)
    figure = matrix_plot(info)
    assert "pull against each other" in figure.layout.title.text
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert info.table().to_dict("records") == [
        {"component": "*", "step": 20, "task": "digit", "other": "odd", "cosine": -0.25}
    ]
    assert "do not pull" in matrix_plot(matrix_info(FOUND, step=10)).layout.title.text


def test_components_stand_in_the_order_given() -> None:
    info = pairs_info(FOUND, order=("stage.mix", "in", "unmeasured"))
    assert info.components == ("stage.mix", "in")
    assert info.pairs == ("digit · odd", "digit · strokes", "odd · strokes")
    assert info.values == ((-0.5, None, None), (0.25, None, None))
    assert "in 1 of 2 shared parts" in pairs_plot(info).layout.title.text
    assert len(info.table()) == 2
    curves = {
        f"gradient_cosine/{path}/digit~odd": ([5], [0.5])
        for path in ("s", "s.0", "s.1", "s.0.a", "s.1.a", "s.1.b", "s.0.b", "s.a", "s.b", "z")
    }
    info = pairs_info(cosines_of(TASKS, curves), order=("z", "s.b", "s.a"))
    assert info.components == ("z", "s.0.b", "s.0.a", "s.1.b", "s.1.a")


def test_without_measurements_the_figures_say_so() -> None:
    nothing = cosines_of(TASKS, {})
    assert nothing.steps() == []
    assert "nothing was measured" in matrix_plot(matrix_info(nothing)).layout.title.text
    assert "nothing was measured" in pairs_plot(pairs_info(nothing)).layout.title.text


def test_conflicts_are_told_worst_first() -> None:
    found = conflicts(FOUND)
    assert [one[:3] for one in found] == [("stage.mix", "digit", "odd")]
    assert found[0][3] == pytest.approx(-0.5), "the whole trunk's mean over steps is above 0"
