"""The pictures of a run's gradient flow hold what was measured."""

from __future__ import annotations

import pytest

from hybridlab.architecture.document import loads
from hybridlab.training.flow import QUANTITIES, flow
from hybridlab.views.gradient_flow import heat_info, heat_plot, ratio_info, ratio_plot

TEXT = "name: t\nwidth: 8\nnodes:\n  - {id: a, use: gru}\n  - {id: b, use: mlp}\n  - {id: c, use: sum}\n"
FLOW = flow(
    loads(TEXT),
    lambda use: None,
    {
        "grad_norm/a": ([1, 10, 20], [1e-5, 1e-4, None]),
        "grad_norm/b": ([1, 10, 20], [0.1, 0.0, 0.5]),
        "dead_share/a": ([10], [0.25]),
        "loss": ([1], [3.0]),
    },
)


def test_the_heat_map_has_components_in_order_and_gaps_where_nothing_was_measured() -> None:
    info = heat_info(FLOW, "grad_norm")
    assert (info.components, info.steps) == (("a", "b"), (1, 10, 20))
    assert info.values == ((1e-5, 1e-4, None), (0.1, 0.0, 0.5))
    (trace,) = heat_plot(info).data
    assert trace.z[0] == pytest.approx((-5, -4, None)) and trace.z[1][1] is None
    assert trace.text[1][1] == "0", "a zero has no logarithm, but its number is told"
    assert list(info.table().columns) == ["component", "step", "grad_norm"]
    assert len(info.table()) == 5


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_is_drawn_with_its_unit_even_where_it_is_empty(quantity: str) -> None:
    info = heat_info(FLOW, quantity)
    figure = heat_plot(info)
    assert figure.data[0].colorbar.title.text == QUANTITIES[quantity].unit
    assert ("nothing was measured" in figure.layout.title.text) == (not info.components)


def test_the_ratio_leaves_zeros_out() -> None:
    info = ratio_info(FLOW)
    assert info.steps == (1, 10, 20)
    assert info.ratios == pytest.approx((1e4, 1.0, 1.0))
    figure = ratio_plot(info)
    assert figure.layout.yaxis.type == "log" and "at step 20" in figure.layout.title.text
